"""What this process holds: every lease it has taken, kept alive by a thread until its job is done
or put back.

The thread is apart from the consuming loop on purpose: a loop that is busy (a task in the solo
pool, a long callback) must not let leases run out. It is apart from the connection, too: while the
broker is away the leases stay on the books, and are renewed, or acked, as soon as it is back; a job
that still runs is not started again.

Acks are collected and written together with the next reservation. What goes back changed (a retry,
a release) is written by the consuming loop, too, one call each: the thread that reads the pool's
results never waits for the broker. Once nobody consumes any more (`write_through`), each is written
at once by whoever gives it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from relevo.drivers.contract import Driver, Lease, ReservedJob
from relevo.errors import DriverError, DriverUnavailableError
from relevo.transport.leases import Leases

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Changed:
    """A job that goes back changed. `due`: when it may run again, by this process's monotonic
    clock.
    """

    payload: str
    attempts: int
    due: float


class Ledger(Leases):
    """The leases this process holds at one broker, and what is to be written of those that end."""

    #: True in a worker: its consumer may reconnect while jobs run, so a closed channel is no reason
    #: to put them back.
    outlives_channels = False

    def __init__(self, driver: Driver, lease: float) -> None:
        super().__init__(driver, lease)
        self.write_through = False
        self._back: dict[str, Changed] = {}

    def take(self, jobs: Iterable[ReservedJob]) -> list[ReservedJob]:
        """These are ours now. Returns those that are to be started: all, but for what has come back
        to us.
        """
        with self._lock:
            if not self._held:
                self._renewed = time.monotonic()
            new = [job for job in jobs if self._enter(job)]
        self._ensure_thread()
        return new

    def _enter(self, job: ReservedJob) -> bool:
        if self._roster.has_ended(job):
            self._done.append(job.lease)
            logger.warning(
                "job %s came back after its lease had ended: it has run here, and is acked", job.id
            )
            return False
        token = self._roster.enter(job)
        self._held[token or job.lease.token] = job.lease
        if token is not None:
            self.gate.left(token)
            logger.warning(
                "job %s came back after its lease had ended: it still runs here, and goes on",
                job.id,
            )
        return token is None

    def done(self, token: str) -> None:
        """A job is done; its ack is written with the next reservation."""
        self.all_done([token])

    def all_done(self, tokens: Iterable[str]) -> None:
        """Jobs are done; their acks are written with the next reservation."""
        with self._lock:
            for token in tokens:
                self.gate.left(token)
                self._roster.end(token)
                if lease := self._held.pop(token, None):
                    self._done.append(lease)
        if self.write_through:
            self.flush()

    def collect(self) -> list[Lease]:
        """The acks to be written now. Who can't write them hands them back with `uncollect`."""
        with self._lock:
            done, self._done = self._done, []
        if self.gate.write():
            return done
        self.uncollect(done)
        return []

    def uncollect(self, leases: list[Lease]) -> None:
        with self._lock:
            self._done[:0] = leases

    def flush(self) -> None:
        """Write the acks. While the broker is away they are kept; the renewing thread goes on
        trying.
        """
        done = self.collect()
        if not done:
            return
        try:
            self.driver.ack(done)
        except DriverUnavailableError as error:
            self.uncollect(done)
            logger.warning("%d acks wait for the broker: %s", len(done), error)

    def release(self, tokens: Iterable[str], delay: float = 0) -> None:
        """Put jobs back. While the broker is away they are left to the end of their leases, which
        comes to the same.
        """
        with self._lock:
            leases = [lease for token in tokens if (lease := self._pop(token))]
        if not leases:
            return
        self.gate.write()
        try:
            self.driver.release(leases, delay)
        except DriverUnavailableError as error:
            logger.warning(
                "%d jobs could not be put back and wait for their leases to end: %s",
                len(leases),
                error,
            )

    def put_back(self, token: str, delay: float, payload: str, attempts: int) -> None:
        """A job goes back with another payload and count, in one call. Until that is written its
        lease is kept.
        """
        with self._lock:
            self._back[token] = Changed(payload, attempts, time.monotonic() + delay)
        if self.write_through:
            self.write_back()

    def write_back(self) -> None:
        """Put back what goes back changed. While the broker is away it is kept, and its delay goes
        on.
        """
        while self._back:
            with self._lock:
                token, job = self._back.popitem() if self._back else ("", None)
                lease = self._held.get(token) or self._pop(token)
            if job is not None and lease is not None and not self._written_back(token, lease, job):
                return

    def _written_back(self, token: str, lease: Lease, job: Changed) -> bool:
        delay = max(job.due - time.monotonic(), 0)
        self.gate.write()
        try:
            self.driver.release([lease], delay, job.payload, job.attempts)
        except DriverUnavailableError as error:
            with self._lock:
                self._back.setdefault(token, job)
            logger.warning("%d jobs to be put back wait for the broker: %s", len(self._back), error)
            return False
        except DriverError:  # it won't have the job as it is now, so it gets it as it was
            logger.exception("a job could not be put back changed, and goes back as it was")
            self.release([token], delay)
        with self._lock:
            self._pop(token)
        return True

    def _pop(self, token: str) -> Lease | None:
        """The job has left this process, with its lease or without."""
        self.gate.left(token)
        self._roster.leave(token)
        return self._held.pop(token, None)

    def close(self) -> None:
        """The process ends: write the acks, put back everything that is left, stop the thread."""
        self._stop.set()
        self.write_back()
        self.flush()
        self.release(list(self._held))
        self.gate.write()

    def drop(self, tokens: Iterable[str]) -> None:
        """These jobs were cancelled: what becomes of them here is nobody's business there any more."""
        with self._lock:
            for token in tokens:
                self.gate.left(token)
                self._held.pop(token, None)
                self._back.pop(token, None)

    def write_for_nobody_else_does(self) -> None:
        if self.write_through:
            self.write_back()
            self.flush()

    @property
    def puts_back(self) -> bool:
        """Whether something still has to be put back."""
        return bool(self._back)
