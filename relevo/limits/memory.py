"""Limits in memory, beside the memory driver: for tests, in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from relevo.limits import algorithms
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
    is_of_rate,
    name_of,
)
from relevo.limits.rates import Rate
from relevo.limits.views import view_of
from relevo.limits.waiters import Waiter


@dataclass
class MemoryRecord:
    """One key. `until`: when the lease of a token ends, or None when it is gone."""

    until: Callable[[str], float | None]
    state: Any = None
    at_most: int = 0
    permits: dict[str, tuple[Holder, float]] = field(default_factory=dict)
    waiters: dict[str, Waiter] = field(default_factory=dict)

    def has_waiters(self) -> bool:
        return bool(self.waiters)

    def holders(self) -> Sequence[str]:
        self.permits = {
            token: held for token, held in self.permits.items() if self.until(token) is not None
        }
        return list(self.permits)

    def add_permit(self, holder: Holder, now: float) -> None:
        self.permits[holder.token] = (holder, now)

    def remove_permit(self, token: str) -> None:
        self.permits.pop(token, None)

    def waiter(self, job_id: str) -> Waiter | None:
        return self.waiters.get(job_id)

    def expected(self, after: float, until: float) -> Sequence[Waiter]:
        return [one for one in self.waiters.values() if after < one.due <= until]

    def count_later(self, now: float) -> int:
        return sum(one.due > now for one in self.waiters.values())

    def count_earlier(self, since: float) -> int:
        return sum(one.since < since for one in self.waiters.values())

    def next_waiters(self, now: float, most: int) -> Sequence[str]:
        first = sorted((one.since, one.job_id) for one in self.waiters.values() if one.due > now)
        return [job_id for _, job_id in first[:most]]

    def missed_waiters(self, before: float, most: int) -> Sequence[str]:
        first = sorted((one.since, one.job_id) for one in self.waiters.values() if one.due < before)
        return [job_id for _, job_id in first[:most]]

    def put_waiter(self, waiter: Waiter) -> None:
        self.waiters[waiter.job_id] = waiter

    def remove_waiter(self, job_id: str) -> None:
        self.waiters.pop(job_id, None)

    def remove_late_waiters(self, before: float) -> None:
        self.waiters = {job_id: one for job_id, one in self.waiters.items() if one.due >= before}

    @property
    def is_empty(self) -> bool:
        return self.state is None and not self.holders() and not self.waiters


class MemoryLimits(Limits):
    """The limits of one memory driver.

    `until`: when the lease of a token ends (None: it is gone). `rescue`: ends leases.
    """

    def __init__(
        self,
        until: Callable[[str], float | None],
        rescue: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self._until, self._rescue, self._now = until, rescue, now
        self._records: dict[str, MemoryRecord] = {}
        self._rates: dict[str, Rate] = {}
        self._lock = threading.Lock()

    def _record(self, key: str) -> MemoryRecord:
        check_key(key)
        self._records = {
            each: record for each, record in self._records.items() if not record.is_empty
        }
        return self._records.setdefault(key, MemoryRecord(self._until))

    def take(self, key: str, at_most: int, holder: Holder) -> float:
        self._rescue()
        with self._lock:
            record = self._record(key)
            record.at_most = at_most
            return algorithms.take(record, at_most, holder, self._now())

    def release(self, key: str, holder: Holder) -> list[str]:
        with self._lock:
            record = self._record(key)
            return algorithms.release(record, record.at_most, holder, self._now())

    def take_free(self, wanted: Sequence[PermitRequest]) -> set[str]:
        taken: set[str] = set()
        with self._lock:
            for key, group in algorithms.by_key(wanted, lambda each: each.key):
                record = self._record(key)
                record.at_most = group[-1].at_most
                taken |= algorithms.take_free(record, group, self._now())
        return taken

    def hand_over(self, handovers: Sequence[PermitHandover]) -> HandoverResult:
        result = HandoverResult()
        with self._lock:
            for key, group in algorithms.by_key(handovers, lambda each: each.request.key):
                record = self._record(key)
                result.add(algorithms.hand_over(record, record.at_most, group, self._now()))
        return result

    def hit(self, key: str, rate: Rate, cost: float, job_id: str) -> float:
        with self._lock:
            rate = self._rates.get(name_of(key), rate)
            return algorithms.hit(self._record(key), rate, cost, job_id, self._now())

    # The state has the rate.
    def refund(self, key: str, rate: Rate, cost: float) -> list[str]:  # noqa: ARG002
        with self._lock:
            return algorithms.refund(self._record(key), cost, self._now())

    def redefine(self, name: str, rate: Rate | None) -> list[str]:
        with self._lock:
            self._rates = {each: it for each, it in self._rates.items() if each != name}
            if rate is not None:
                self._rates[name] = rate
            waiting = [
                one
                for key, record in self._records.items()
                if is_of_rate(key, name)
                for one in record.waiters.values()
            ]
            return [one.job_id for one in sorted(waiting, key=lambda one: (one.since, one.job_id))]

    def redefined_rates(self) -> dict[str, Rate]:
        with self._lock:
            return dict(self._rates)

    def check_breaker(self, key: str, job_id: str) -> tuple[float, bool]:
        with self._lock:
            return algorithms.check_breaker(self._record(key), job_id, self._now())

    def record_error(self, key: str, breaker: Breaker) -> float:
        with self._lock:
            return algorithms.record_error(self._record(key), breaker, self._now())

    def views(self, prefix: str = "", most: int = 1000) -> list[LimitView]:
        with self._lock:
            found = sorted(
                (key, record)
                for key, record in self._records.items()
                if key.startswith(prefix) and not record.is_empty
            )
            return [self._view(key, record) for key, record in found[:most]]

    def _view(self, key: str, record: MemoryRecord) -> LimitView:
        held = [
            HeldPermit(holder.job_id, holder.task, since, self._until(token))
            for token, (holder, since) in record.permits.items()
            if self._until(token) is not None
        ]
        waiting = sorted((one.since, one.job_id) for one in record.waiters.values())
        return view_of(
            key,
            record.state,
            record.at_most,
            held,
            len(waiting),
            [one for _, one in waiting],
            self._now(),
        )

    def clear(self, key: str) -> list[str]:
        check_key(key)
        with self._lock:
            record = self._records.pop(key, None)
            return sorted(record.waiters) if record else []
