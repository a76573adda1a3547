"""How long a job waits between two attempts.

    backoff=30                                30 s after each attempt
    backoff=[10, 30, 60]                      the last value repeats
    backoff=lambda attempt: 2 ** attempt      `attempt`: the one that went wrong, counted from 1
    jitter=0.2                                each wait up to 20 % longer

Jitter keeps jobs that failed together from coming back together. Pure: the caller throws the dice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from relevo.errors import OptionError

#: Waits in seconds, one per attempt, the last one repeating; or a function of the attempt.
Waits = tuple[float, ...] | Callable[[int], float]

AT_ONCE: Waits = (0.0,)

# The longest wait, a year. A runaway `2 ** attempt` would overflow the date that it is turned into.
MAX_SECONDS = 365 * 86_400.0


def is_wait(value: Any) -> bool:
    """Whether `value` is a number of seconds from 0, not infinite."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and value >= 0 and not math.isinf(value)


def is_backoff(value: Any) -> bool:
    """Whether `value` can be a task's `backoff`."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(is_wait, value))
    return callable(value) or is_wait(value)


def waits(value: float | Sequence[float] | Callable[[int], float]) -> Waits:
    """A task's `backoff` in one shape: a tuple or a callable."""
    if callable(value):
        return value
    return tuple(value) if isinstance(value, Sequence) else (value,)


def seconds(given: Waits, attempt: int, jitter: float = 0.0, dice: float = 0.0) -> float:
    """The wait after `attempt`, in seconds. `dice`: from 0 (no jitter) to 1 (all of it).

    Raises OptionError if a callable returns anything else than a number of seconds.
    """
    wait = given(attempt) if callable(given) else given[min(attempt, len(given)) - 1]
    if not is_wait(wait):
        raise OptionError(f"expected backoff({attempt}) to give a number of seconds, got {wait!r}")
    return min(wait * (1 + jitter * dice), MAX_SECONDS)
