"""The leases that a process holds: kept alive by a thread, and taken back where they have ended
under a running job.

    extend -> still held
           -> ended: nobody has the job now -> held by its id: it goes on here, under a new lease
                     another worker has it  -> forgotten: it may run there, too

Whose machine has stood still for longer than a lease (a laptop asleep, a virtual machine that was
moved) finds that a rescue has put its jobs back. Mostly they wait then, behind others or because
every worker has slept as long; they still run here, and must not be started a second time.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

from relevo.drivers.contract import Driver, Lease
from relevo.errors import DriverError, DriverUnavailableError
from relevo.transport.admission import Gate
from relevo.transport.in_flight import Name, Roster

logger = logging.getLogger(__name__)

# A lease is renewed this many times in its own length, so that two failures in a row don't lose it.
RENEWALS_PER_LEASE = 3
# Seconds between tries while the broker is away.
RETRY = 0.5
# After this part of a lease without a renewal this process has stood still, or is about to lose its
# leases anyway.
LATE = 0.8


def holder() -> str:
    """What others see of this process where it holds a job."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Leases(ABC):
    """The leases this process holds at one broker, of `lease` seconds each. Any thread may call any
    method.
    """

    def __init__(self, driver: Driver, lease: float) -> None:
        self.driver = driver
        self.lease = lease
        #: Told of every job that leaves; it writes what it has to say before a lease is ended.
        self.gate = Gate()
        self._held: dict[str, Lease] = {}
        self._roster = Roster()
        self._done: list[Lease] = []
        self._renewed = time.monotonic()
        self._lock, self._renewing = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def holds(self, token: str) -> bool:
        return token in self._held

    @property
    def is_late(self) -> bool:
        """Whether leases may have ended because this process stood still: they are renewed before
        anything is taken.
        """
        return bool(self._held) and time.monotonic() - self._renewed > self.lease * LATE

    @abstractmethod
    def write_for_nobody_else_does(self) -> None:
        """Write the acks, and what goes back, where there is no consuming loop that does."""

    def renew(self) -> bool:
        """Extend every lease once. Returns whether the broker took it."""
        with self._renewing:  # of two, one would forget what the other is just taking back
            return self._renew()

    def _renew(self) -> bool:
        with self._lock:
            held = dict(self._held)
        leases = list(held.values())
        started = time.monotonic()
        self.gate.write()  # what ended is not renewed: nothing may depend on its lease for longer
        try:
            ended = {lease.token for lease in self.driver.extend(leases, self.lease)}
            if ended:
                self._take_back(
                    {token: lease for token, lease in held.items() if lease.token in ended}
                )
            self.write_for_nobody_else_does()
        except DriverUnavailableError as error:
            logger.warning("%d leases could not be renewed: %s", len(leases), error)
            return False
        except DriverError:
            logger.exception("%d leases could not be renewed", len(leases))
            return False
        self._renewed = time.monotonic()
        self._forget(
            {token: lease for token, lease in held.items() if lease.token in ended},
            self._renewed - started,
        )
        return True

    def _take_back(self, ended: Mapping[str, Lease]) -> None:
        with self._lock:
            tokens = {
                name: token for token in ended if (name := self._roster.name_of(token)) is not None
            }
        free = []
        for job in (
            self.driver.hold({id_ for _, id_ in tokens}, self.lease, holder()) if tokens else ()
        ):
            name = (job.lease.key, job.was.id)
            if name not in tokens or not self._goes_on(tokens[name], name, job.lease):
                free.append(job)  # another job of the same id, or one that has left meanwhile
        for job in free:
            self.driver.release([job.lease], attempts=job.was.attempts)

    def _goes_on(self, token: str, name: Name, lease: Lease) -> bool:
        with self._lock:
            if token in self._held:
                self._held[token] = lease
                self.gate.left(token)
                logger.warning(
                    "the lease of job %s had ended: it still runs here, and goes on", name[1]
                )
            elif self._roster.is_over(name):
                self._done.append(lease)
            else:
                return False
        return True

    def _forget(self, ended: Mapping[str, Lease], took: float) -> None:
        with self._lock:
            gone = [token for token, lease in ended.items() if self._held.get(token) == lease]
            for token in gone:
                self.gate.left(token)
                del self._held[token]
        if gone:
            logger.warning(
                "%d leases had ended, their jobs may run again (the renewal took %.1f s)",
                len(gone),
                took,
            )

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._stop.clear()
            self._thread = threading.Thread(target=self._keep, name="relevo-leases", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        pause = self.lease / RENEWALS_PER_LEASE
        while not self._stop.wait(pause):
            pause = (
                self.lease / RENEWALS_PER_LEASE
                if self.renew()
                else min(RETRY, self.lease / RENEWALS_PER_LEASE)
            )
