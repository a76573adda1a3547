"""Builds the view of a limit, for people, from the data of a store. Pure."""

from __future__ import annotations

from typing import Any

from relevo.limits import breakers, rates
from relevo.limits.contract import ERRORS, OVERLAP, HeldPermit, LimitView
from relevo.limits.rates import Rate

#: The most holders and the most waiting jobs that a view names.
NAMED = 20


def view_of(
    key: str,
    state: Any,
    at_most: int | None,
    held: list[HeldPermit],
    waiting: int,
    line: list[str],
    now: float,
) -> LimitView:
    """The view of one limit. `state` is the state of its rate or breaker."""
    kind = key.partition("/")[0]
    held.sort(key=lambda one: one.since)
    if kind == OVERLAP:
        ends = min((one.until for one in held if one.until is not None), default=None)
        return LimitView(key, len(held), at_most or None, waiting, ends, held[:NAMED], line[:NAMED])
    if kind == ERRORS:
        until = now + breakers.seconds_left(state, now)
        return LimitView(
            key,
            state[0] if state else 0,
            None,
            waiting,
            until if until > now else None,
            [],
            line[:NAMED],
        )
    if not state:
        return LimitView(key, 0, None, waiting, None, [], line[:NAMED])
    rate = Rate(*state[0])
    left = rates.free_units(rates.current(state, rate, now), rate)
    opens = rates.opens_at(rates.current(state, rate, now), rate, 1, now)
    return LimitView(
        key,
        max(0.0, round(rate.most - left, 6)),
        rate.most,
        waiting,
        opens if opens > now else None,
        [],
        line[:NAMED],
        str(rate),
    )
