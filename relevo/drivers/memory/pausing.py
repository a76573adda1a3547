"""The verbs of the memory driver that keep jobs from being started: pauses of queues, and
suspensions.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from relevo.drivers import validation
from relevo.drivers.contract import Driver, Lease
from relevo.drivers.memory.jobs import Jobs
from relevo.drivers.values import UNTIL_LIFTED


class Pausing(Driver):
    """A part of the driver."""

    _lock: threading.Lock
    _jobs: Jobs
    _changes: int

    def pause(self, queue: str, until: float | None = None) -> None:
        validation.queues([queue])
        validation.instant("until", until or 0)
        with self._lock:
            self._jobs.pause(queue, until)

    def resume(self, queue: str) -> None:
        validation.queues([queue])
        with self._lock:
            self._changes += 1
            self._jobs.resume(queue)

    def paused(self) -> dict[str, float | None]:
        with self._lock:
            return self._jobs.paused(self.now())

    def suspend(self, what: str, until: float | None = None) -> None:
        validation.suspension(what, until)
        with self._lock:
            self._changes += 1
            self._jobs.unpark(what, UNTIL_LIFTED if until is None else until, self.now())
            self._jobs.suspended[what] = until

    def lift(self, what: str) -> None:
        validation.suspension(what)
        with self._lock:
            self._changes += 1
            self._jobs.lift(what, self.now())

    def suspended(self) -> dict[str, float | None]:
        with self._lock:
            now, every = self.now(), self._jobs.suspended
            for what in [
                what for what, until in every.items() if until is not None and until <= now
            ]:
                self._jobs.lift(what, now)
            return dict(every)

    def park(self, leases: Sequence[Lease], what: str) -> int:
        validation.suspension(what)
        with self._lock:
            self._changes += 1
            return self._jobs.park(self._jobs.held(leases), what, self.now())

    def parked(self, what: str) -> int:
        validation.suspension(what)
        with self._lock:
            return len(self._jobs.parked(what))
