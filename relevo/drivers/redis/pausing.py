"""The verbs of the Redis driver that keep jobs from being started: pauses of queues, and
suspensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis

from relevo.drivers import validation
from relevo.drivers.contract import Lease
from relevo.drivers.redis.looking import PORTION, Looking
from relevo.drivers.redis.scripts import number, pairs
from relevo.drivers.values import UNTIL_LIFTED


class Pausing(Looking):
    """A part of the driver."""

    client: Redis
    _do: Callable[..., Any]

    def pause(self, queue: str, until: float | None = None) -> None:
        validation.queues([queue])
        validation.instant("until", until or 0)
        self._do(self.client.hset, self.keys.plain("paused"), queue, _end(until))

    def resume(self, queue: str) -> None:
        validation.queues([queue])
        self._run("resume", queue)

    def paused(self) -> dict[str, float | None]:
        return _running(self._ends("paused"), self.now())

    def suspend(self, what: str, until: float | None = None) -> None:
        validation.suspension(what, until)
        while self._run("suspend", what, _end(until), number(UNTIL_LIFTED), PORTION) >= PORTION:
            pass

    def lift(self, what: str) -> None:
        validation.suspension(what)
        while self._run("lift", what, PORTION) >= PORTION:
            pass

    def suspended(self) -> dict[str, float | None]:
        every = self._ends("suspended")
        running = _running(every, self.now())
        for what in every.keys() - running.keys():  # by itself, or whoever lifted it died half-way
            self.lift(what)
        return running

    def park(self, leases: Sequence[Lease], what: str) -> int:
        validation.suspension(what)
        return int(self._run("park", what, number(UNTIL_LIFTED), *pairs(leases))) if leases else 0

    def parked(self, what: str) -> int:
        validation.suspension(what)
        return int(self._do(self.client.zcard, self.keys.named("parked", what)))

    def _ends(self, key: str) -> dict[str, float | None]:
        ends: dict[bytes, bytes] = self._do(self.client.hgetall, self.keys.plain(key))
        return {name.decode(): float(end) if end else None for name, end in ends.items()}


def _end(until: float | None) -> str:
    return "" if until is None else number(until)


def _running(ends: dict[str, float | None], now: float) -> dict[str, float | None]:
    return {name: end for name, end in ends.items() if end is None or end > now}
