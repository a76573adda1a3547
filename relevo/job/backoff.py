"""How long a job waits between two attempts.

A task says `backoff=30` (always), `backoff=[10, 30, 60]` (the last value repeats) or
`backoff=lambda attempt: 2 ** attempt`, where the attempt is the one that has just gone wrong,
counted from 1. `jitter=0.2` makes each wait up to 20 % longer, so that jobs which failed together
don't all come back together. Pure: the dice are thrown by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from relevo.errors import OptionError

#: Waits in seconds, one per attempt, the last one repeating; or a function of the attempt.
Waits = tuple[float, ...] | Callable[[int], float]

AT_ONCE: Waits = (0.0,)

# A wait is turned into a date; a runaway `2 ** attempt` would overflow it and lose the job's turn.
MAX_SECONDS = 365 * 86_400.0


def is_wait(value: Any) -> bool:
    """Whether `value` is a number of seconds one can wait."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and value >= 0 and not math.isinf(value)


def is_backoff(value: Any) -> bool:
    """Whether `value` can be a task's `backoff`."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(is_wait, value))
    return callable(value) or is_wait(value)


def waits(value: float | Sequence[float] | Callable[[int], float]) -> Waits:
    """A task's `backoff`, as given, in the one shape the rest reads."""
    if callable(value):
        return value
    return tuple(value) if isinstance(value, Sequence) else (value,)


def seconds(given: Waits, attempt: int, jitter: float = 0.0, dice: float = 0.0) -> float:
    """How long to wait after `attempt`. `dice` is from 0 (no jitter) to 1 (all of it).

    Raises OptionError when a callable answers with something one can't wait for.
    """
    wait = given(attempt) if callable(given) else given[min(attempt, len(given)) - 1]
    if not is_wait(wait):
        raise OptionError(f"expected backoff({attempt}) to give a number of seconds, got {wait!r}")
    return min(wait * (1 + jitter * dice), MAX_SECONDS)
