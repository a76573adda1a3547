"""What becomes of the ticks that have passed: those no beat was there for, or could reach the store
at. Pure.

    one     the latest is run, however many were missed                                           (the default)
    none    the latest is run unless it is late; a beat that takes over within a minute isn't
    all     each is run, the oldest first, up to a limit

With a window, what is longer ago is not run. `none` has one of a minute, and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from relevo.errors import OptionError, did_you_mean
from relevo.schedule.ticks import Ticks

#: Under `none`, a tick that is run so many seconds after its time isn't late yet.
LATE_SECONDS = 60.0
#: Under `all`, so many are run unless the entry says otherwise, and no more than this.
LIMIT, HIGHEST_LIMIT = 100, 10_000
#: So many in one turn, which is one transaction: 10,000 held up all who write to a SQLite file for
#: half a minute.
PAGE = 100


class Rule(StrEnum):
    """What an entry makes up for."""

    ONE = "one"
    NONE = "none"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CatchUp:
    """The rule of an entry; `window` in seconds, None for no end."""

    rule: Rule = Rule.ONE
    limit: int = LIMIT
    window: float | None = None

    def due(self, ticks: Ticks, since: float, now: float) -> tuple[list[float], float | None]:
        """The ticks to run, oldest first, and the latest that has had its turn with these, as have
        all before it.
        """
        passed = ticks.until(since, now, self.limit if self.rule is Rule.ALL else 1)
        window = LATE_SECONDS if self.rule is Rule.NONE else self.window
        run = passed if window is None else [tick for tick in passed if tick >= now - window]
        if len(run) > PAGE:
            return run[:PAGE], run[PAGE - 1]
        return run, passed[-1] if passed else None


def read(rule: Any, limit: Any, window: Any) -> CatchUp:
    """The rule of an entry as it was written. Raises OptionError."""
    known = [each.value for each in Rule]
    if rule not in known:
        raise OptionError(
            f"expected catch_up to be {', '.join(known)}, got {rule!r}{did_you_mean(str(rule), known)}"
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
