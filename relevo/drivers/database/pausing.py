"""The verbs of the database driver that keep jobs from being started: pauses of queues, and
suspensions.
"""

from __future__ import annotations

from collections.abc import Sequence

from relevo.drivers import validation
from relevo.drivers.contract import Lease
from relevo.drivers.database import pauses, task_pauses
from relevo.drivers.database.looking import Looking
from relevo.drivers.database.notifier import Notifier
from relevo.drivers.values import UNTIL_LIFTED


class Pausing(Looking):
    """A part of the driver; the steps are in `pauses.py` and `suspensions.py`."""

    notifier: Notifier

    def pause(self, queue: str, until: float | None = None) -> None:
        validation.queues([queue])
        validation.instant("until", until or 0)
        self.connections.write(lambda connection: pauses.pause(connection, queue, until))

    def resume(self, queue: str) -> None:
        validation.queues([queue])
        self.connections.write(lambda connection: pauses.resume(connection, queue))
        self.notifier.notify()

    def paused(self) -> dict[str, float | None]:
        now = self.now()
        return self.connections.read(lambda connection: pauses.paused(connection, now))

    def suspend(self, what: str, until: float | None = None) -> None:
        validation.suspension(what, until)
        self.connections.write(lambda connection: task_pauses.suspend(connection, what, until))
        # Those that are parked to another end come back, and are parked anew.
        self._unpark(what, UNTIL_LIFTED if until is None else until)

    def lift(self, what: str) -> None:
        validation.suspension(what)
        now = self.now()
        self.connections.write(lambda connection: task_pauses.end(connection, what, now))
        self._unpark(what, None)
        self.connections.write(lambda connection: task_pauses.forget(connection, what, now))

    def suspended(self) -> dict[str, float | None]:
        every, now = self.connections.read(task_pauses.every), self.now()
        over = [what for what, until in every.items() if until is not None and until <= now]
        for what in over:  # by itself, or whoever lifted it died half-way
            self.lift(what)
        return {what: until for what, until in every.items() if what not in over}

    def park(self, leases: Sequence[Lease], what: str) -> int:
        validation.suspension(what)
        now = self.now()
        return (
            self.connections.write(lambda c: task_pauses.park(c, leases, what, now))
            if leases
            else 0
        )

    def parked(self, what: str) -> int:
        validation.suspension(what)
        return self.connections.read(lambda connection: task_pauses.count(connection, what))

    def _unpark(self, what: str, but: float | None) -> None:
        now, unparked = self.now(), task_pauses.BATCH
        while unparked == task_pauses.BATCH:
            unparked = self.connections.write(
                lambda connection: task_pauses.unpark(connection, what, but, now)
            )
            self.notifier.notify()
