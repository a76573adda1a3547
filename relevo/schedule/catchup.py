"""Decides which missed ticks are run: those when no beat ran, or when the store was away. Pure.

    one     the latest, however many were missed (the default)
    none    the latest, unless it is more than a minute late: a beat that takes over is in time
    all     each one, oldest first, up to a limit

A tick that is older than the entry's window is not run. `none` has a window of a minute, and no
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from relevo.errors import OptionError, did_you_mean
from relevo.schedule.ticks import Ticks

#: Under `none`, a tick is late after so many seconds.
LATE_SECONDS = 60.0
#: Under `all`, the default and the highest number of ticks to run.
LIMIT, HIGHEST_LIMIT = 100, 10_000
#: The most ticks in one transaction. With 10,000, all other writers of a SQLite file waited for
#: half a minute.
PAGE = 100


class Rule(StrEnum):
    """Which missed ticks an entry runs."""

    ONE = "one"
    NONE = "none"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CatchUp:
    """The rule of an entry. `window` is in seconds, None for no bound."""

    rule: Rule = Rule.ONE
    limit: int = LIMIT
    window: float | None = None

    def due(self, ticks: Ticks, since: float, now: float) -> tuple[list[float], float | None]:
        """Return the ticks to run, oldest first, and the latest tick that is done with them.

        All ticks before that one are done as well, whether they were run or not.
        """
        passed = ticks.until(since, now, self.limit if self.rule is Rule.ALL else 1)
        window = LATE_SECONDS if self.rule is Rule.NONE else self.window
        run = passed if window is None else [tick for tick in passed if tick >= now - window]
        if len(run) > PAGE:
            return run[:PAGE], run[PAGE - 1]
        return run, passed[-1] if passed else None


def read(rule: Any, limit: Any, window: Any) -> CatchUp:
    """Check the rule of an entry as it was written. Raises OptionError."""
    known = [each.value for each in Rule]
    if rule not in known:
        raise OptionError(
            f"expected catch_up to be {', '.join(known)}, "
            f"got {rule!r}{did_you_mean(str(rule), known)}"
        )
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= HIGHEST_LIMIT:
        raise OptionError(
            f"expected catch_up_limit to be a whole number from 1 to {HIGHEST_LIMIT}, got {limit!r}"
        )
    if isinstance(window, timedelta):
        window = window.total_seconds()
    if window is not None and (
        not isinstance(window, (int, float)) or isinstance(window, bool) or not window > 0
    ):
        raise OptionError(f"expected catch_up_window to be seconds or a timedelta, got {window!r}")
    return CatchUp(Rule(rule), limit, None if window is None else float(window))
