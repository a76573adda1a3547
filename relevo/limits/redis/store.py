"""`contract.Limits` on the Redis of the jobs. Each verb is one Lua script in `lua/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from relevo.limits.breakers import Breaker
from relevo.limits.contract import (
    HandoverResult,
    HeldPermit,
    Holder,
    Limits,
    LimitView,
    PermitHandover,
    PermitRequest,
    check_key,
    name_of,
)
from relevo.limits.rates import Rate
from relevo.limits.views import NAMED, view_of

# The number of values for each limit of `views.lua`, and for each rate of `redefined_rates.lua`.
_VIEW_VALUES, _RATE_VALUES = 8, 5
# The arguments for no holder.
_NO_HOLDER = ["", "", ""]


class RedisLimits(Limits):
    """The limits on one Redis. `run` runs one of our scripts, behind the driver's `common.lua`."""

    def __init__(self, run: Callable[..., Any], now: Callable[[], float]) -> None:
        self._run, self._now = run, now

    # --- permits ----------------------------------------------------------------------------------
    def take(self, key: str, at_most: int, holder: Holder) -> float:
        check_key(key)
        return float(self._run("take", key, at_most, holder.token, holder.job_id, holder.task))

    def release(self, key: str, holder: Holder) -> list[str]:
        check_key(key)
        return [job_id.decode() for job_id in self._run("release", key, holder.token)]

    def take_free(self, wanted: Sequence[PermitRequest]) -> set[str]:
        given: list[Any] = []
        for each in wanted:
            check_key(each.key)
            given += [each.key, each.at_most, *_holder(each.holder)]
        return {token.decode() for token in self._run("take_free", *given)}

    def hand_over(self, handovers: Sequence[PermitHandover]) -> HandoverResult:
        given: list[Any] = []
        for each in handovers:
            check_key(each.request.key)
            request = each.request
            given += [
                request.key,
                request.at_most,
                request.holder.token,
                *(_holder(each.to) if each.to else _NO_HOLDER),
            ]
        called, crowded, without = (
            [text.decode() for text in texts] for texts in self._run("hand_over", *given)
        )
        return HandoverResult(called, set(crowded), set(without))

    # --- rates ------------------------------------------------------------------------------------
    def hit(self, key: str, rate: Rate, cost: float, job_id: str) -> float:
        check_key(key)
        return float(self._run("hit", key, name_of(key), *_fields(rate), repr(float(cost)), job_id))

    # The state has the rate.
    def refund(self, key: str, rate: Rate, cost: float) -> list[str]:  # noqa: ARG002
        check_key(key)
        return [job_id.decode() for job_id in self._run("refund", key, repr(float(cost)))]

    def redefine(self, name: str, rate: Rate | None) -> list[str]:
        waiting = self._run("redefine", name, *(_fields(rate) if rate is not None else ()))
        return [job_id.decode() for job_id in waiting]

    def redefined_rates(self) -> dict[str, Rate]:
        found = self._run("redefined_rates")
        rows = [found[at : at + _RATE_VALUES] for at in range(0, len(found), _RATE_VALUES)]
        return {
            name.decode(): Rate(int(amount), float(per), kind.decode(), int(burst))
            for name, amount, per, kind, burst in rows
        }

    # --- breakers ---------------------------------------------------------------------------------
    def check_breaker(self, key: str, job_id: str) -> tuple[float, bool]:
        check_key(key)
        seconds, remembered = self._run("check_breaker", key, job_id)
        return float(seconds), bool(remembered)

    def record_error(self, key: str, breaker: Breaker) -> float:
        check_key(key)
        return float(
            self._run("record_error", key, breaker.errors, repr(breaker.per), repr(breaker.wait))
        )

    # --- inspection and repair --------------------------------------------------------------------
    def views(self, prefix: str = "", most: int = 1000) -> list[LimitView]:
        found, now = self._run("views", prefix, most, NAMED), self._now()
        return [
            _view(found[at : at + _VIEW_VALUES], now) for at in range(0, len(found), _VIEW_VALUES)
        ]

    def clear(self, key: str) -> list[str]:
        check_key(key)
        return [job_id.decode() for job_id in self._run("clear", key)]


def _holder(holder: Holder) -> list[str]:
    return [holder.token, holder.job_id, holder.task]


def _fields(rate: Rate) -> list[str | int]:
    return [rate.amount, repr(float(rate.per)), rate.kind, rate.burst]


def _view(answer: list[Any], now: float) -> LimitView:
    key, most, held, waiting, line, kind, numbers, slices = answer
    permits = [held[at : at + 4] for at in range(0, len(held), 4)]
    holders = [
        HeldPermit(job_id.decode(), task.decode(), float(since), float(ends) if ends else None)
        for job_id, task, since, ends in permits
    ]
    return view_of(
        key.decode(),
        _state(kind.decode(), numbers, slices),
        int(most),
        holders,
        waiting,
        [job_id.decode() for job_id in line],
        now,
    )


def _state(kind: str, numbers: list[bytes], slices: list[bytes]) -> Any:
    """The state of a rate or breaker, as the Python stores keep it."""
    if kind == "errors":
        return [float(number) for number in numbers]
    if kind != "rate":
        return None
    rate = [int(float(numbers[0])), float(numbers[1]), numbers[2].decode(), int(float(numbers[3]))]
    if rate[2] == "moving":
        return [
            rate,
            {slices[at].decode(): float(slices[at + 1]) for at in range(0, len(slices), 2)},
            0,
        ]
    return [rate, float(numbers[4]), float(numbers[5])]
