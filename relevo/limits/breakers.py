"""Breakers: after some errors in a period the jobs of a key wait. Pure.

A state is a list of three numbers:

    [errors, until when they are counted, until when jobs wait]

A period begins with its first error. After the wait jobs run again: the first error makes them wait
once more, the first success deletes the state.
"""

from __future__ import annotations

from dataclasses import dataclass

State = list[float]


@dataclass(frozen=True, slots=True)
class Breaker:
    """After `errors` in `per` seconds, jobs wait for `wait` seconds."""

    errors: int
    per: float
    wait: float


def after_error(state: State | None, breaker: Breaker, now: float) -> State:
    """The state after one more error."""
    count, ends, until = state or (0, 0.0, 0.0)
    if now >= max(ends, until + breaker.per if until else 0):
        count, ends, until = 0, now + breaker.per, 0.0
    count += 1
    if count >= breaker.errors:
        return [count, ends, max(until, now + breaker.wait)]
    return [count, ends, until]


def seconds_left(state: State | None, now: float) -> float:
    """For how many seconds jobs must wait now."""
    return max(0.0, state[2] - now) if state else 0.0
