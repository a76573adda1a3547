"""Rates: at most so many units in a period. Pure: a function takes a state and returns a state.

    Rate.of("10/hour")
    Rate.of("5 per second", "moving")
    Rate.of("100/minute", "bucket", burst=20)

fixed    A window begins with its first unit and holds `amount` units. Any one period can see up to
         twice as many.
moving   No period at all sees more than `amount` units. They are counted in slices of a hundredth
         of the period, and a slice leaves the window as a whole: units are free up to 1 % late, and
         a rate of a million an hour needs no more room than one of two.
bucket   Units come in evenly, `amount` in `per` seconds; at most `burst` of them are saved up.

A cost higher than all units there can be takes all of them, so that no job waits for ever. A state
is a list of numbers and texts that any store can keep. `redis/lua/common.lua` has the same rules in
Lua, and the contract's tests run on both.

The `limits` package is not used: its moving window goes by each caller's own clock, its fixed
window counts refused units too, it has no bucket, and the time at which a window opens takes a
second question, whose answer may have changed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from relevo.errors import OptionError, did_you_mean

FIXED, MOVING, BUCKET = "fixed", "moving", "bucket"
KINDS = (FIXED, MOVING, BUCKET)
SLICES = 100
# The rounding error of sums of fractions must not hide a whole unit.
_CLOSE = 1e-9

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_NOTATION = re.compile(
    r"(\d{1,9})\s*(?:/|\s+per\s+)\s*(?:(\d{1,6})\s*)?(second|minute|hour|day)s?", re.ASCII
)

#: The state of a key: [the rate's fields, and two values that depend on its kind]. fixed: start of
#: the window, used units. moving: used units by slice, 0. bucket: saved units, when.
State = list[Any]


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` units in `per` seconds. `burst`: the units in a full bucket."""

    amount: int
    per: float
    kind: str = FIXED
    burst: int = 0

    @classmethod
    def of(cls, notation: str, kind: str = FIXED, burst: int | None = None) -> Rate:
        """The rate of a notation: `10/hour`, `5 per second`. Raises OptionError."""
        found = _NOTATION.fullmatch(notation.strip()) if isinstance(notation, str) else None
        if found is None or not int(found[1]) or found[2] == "0":
            raise OptionError(
                f"expected a rate like '10/hour' or '5 per 30 seconds', got {notation!r}"
            )
        if kind not in KINDS:
            raise OptionError(
                f"expected kind to be one of {', '.join(KINDS)}, "
                f"got {kind!r}{did_you_mean(kind, KINDS)}"
            )
        if burst is not None and (kind != BUCKET or not isinstance(burst, int) or burst < 1):
            raise OptionError(
                f"expected burst to be a positive integer, and only with a bucket, got {burst!r}"
            )
        amount = int(found[1])
        return cls(amount, float(int(found[2] or 1) * UNITS[found[3]]), kind, burst or amount)

    def __str__(self) -> str:
        """The notation that gives this rate, with its kind behind it."""
        unit = max(
            (name for name in UNITS if self.per % UNITS[name] == 0), key=lambda name: UNITS[name]
        )
        times = int(self.per / UNITS[unit])
        burst = f", burst {self.burst}" if self.kind == BUCKET and self.burst != self.amount else ""
        period = f"{times} {unit}s" if times > 1 else unit
        return f"{self.amount}/{period} {self.kind}{burst}"

    @property
    def most(self) -> float:
        """The most units that can be free at once."""
        return self.burst if self.kind == BUCKET else self.amount

    def fields(self) -> list[Any]:
        """The fields for a store; `Rate(*fields)` is the rate again."""
        return [self.amount, self.per, self.kind, self.burst]


def new_state(rate: Rate, now: float) -> State:
    """The state of an unused key."""
    start = (
        (now, 0)
        if rate.kind == FIXED
        else ({}, 0)
        if rate.kind == MOVING
        else (float(rate.burst), now)
    )
    return [rate.fields(), *start]


def current(state: State | None, rate: Rate, now: float) -> State:
    """A state as it is now. When the rate's kind or period has changed, it begins anew."""
    if not state or state[0][1:3] != rate.fields()[1:3]:
        return new_state(rate, now)
    _, first, second = state
    match rate.kind:
        case "fixed":
            return (
                [rate.fields(), first, second] if now < first + rate.per else new_state(rate, now)
            )
        case "moving":
            return [
                rate.fields(),
                {
                    index: used
                    for index, used in first.items()
                    if leaves_window_at(index, rate) > now
                },
                0,
            ]
        case _:
            saved = first + max(0.0, now - second) * rate.amount / rate.per
            return [rate.fields(), min(float(rate.burst), saved), max(now, second)]


def leaves_window_at(index: str, rate: Rate) -> float:
    """The instant at which a slice leaves the moving window."""
    return (int(index) + 1) * (rate.per / SLICES) + rate.per


def free_units(state: State, rate: Rate) -> float:
    """How many units are free in a current state."""
    match rate.kind:
        case "fixed":
            return float(rate.amount - state[2])
        case "moving":
            return float(rate.amount - sum(state[1].values()))
        case _:
            return float(state[1]) + _CLOSE


def opens_at(state: State, rate: Rate, cost: float, now: float) -> float:
    """When `cost` units will be free in a current state, if no others are taken."""
    missing = cost - free_units(state, rate)
    if missing <= 0:
        return now
    match rate.kind:
        case "fixed":
            return float(state[1]) + rate.per
        case "moving":
            for index in sorted(state[1], key=int):
                missing -= state[1][index]
                if missing <= 0:
                    return leaves_window_at(index, rate)
            return now + rate.per
        case _:
            return now + missing * rate.per / rate.amount


def refund(state: State, rate: Rate, cost: float) -> State:
    """A current state after `cost` units, taken just now, are given back."""
    fields, first, second = state
    match rate.kind:
        case "fixed":
            return [fields, first, max(0, second - cost)]
        case "moving":
            left = dict(first)
            for index in sorted(first, key=int, reverse=True):
                back = min(left[index], cost)
                left[index], cost = left[index] - back, cost - back
            return [fields, {index: used for index, used in left.items() if used}, 0]
        case _:
            return [fields, min(float(rate.burst), first + cost), second]


def spend(state: State, rate: Rate, cost: float, now: float) -> State:
    """A current state after `cost` units are taken."""
    fields, first, second = state
    match rate.kind:
        case "fixed":
            return [fields, first, second + cost]
        case "moving":
            index = str(math.floor(now / (rate.per / SLICES)))
            return [fields, {**first, index: first.get(index, 0) + cost}, 0]
        case _:
            return [fields, first - cost, second]
