"""The leases that a process holds: taken with a job, extended by a thread, ended by ack or release.

    adopt -> the thread extends the lease -> complete          -> ack, with the next reservation
                                          -> release           -> back to the queue, at once
                                          -> release_changed   -> back with a new payload (a retry)
                                                               -> refused: to the failed store

A thread extends the leases, not the consuming loop: a busy loop (a task in the solo pool, a long
callback) must not let leases run out. The keeper is independent of the connection, too. While the
broker is away it keeps the leases, and extends or acks them when the broker is back, so a running
job is not started again.

The consuming loop writes acks together with the next reservation. It writes changed releases as
well, one call each, so that the thread that reads the pool's results never waits for the broker.
When no loop consumes any more (`write_through`), the caller writes at once.

A machine that stood still for longer than a lease (a laptop asleep, a virtual machine that was
moved) finds that a rescue has released its jobs:

    extend -> still held
           -> ended: no worker has the job -> held by its id: it goes on here, under a new lease
                     another worker has it -> forgotten: it may run there as well

Mostly no worker has it: the jobs wait behind others, or every worker slept as long. They still run
here and must not be started a second time.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from relevo.drivers.contract import Driver, Lease, ReservedJob
from relevo.errors import DriverError, DriverUnavailableError
from relevo.transport.admission import Admission
from relevo.transport.in_flight import InFlightJobs, Name

logger = logging.getLogger(__name__)

# A lease is extended this often in its own length, so that two failures in a row don't lose it.
RENEWALS_PER_LEASE = 3
# Seconds between tries while the broker is away.
RETRY_SECONDS = 0.5
# After this part of a lease without a renewal, the process has stood still or is about to lose its
# leases.
LATE = 0.8


def holder() -> str:
    """Return the name by which the broker knows this process as the holder of a job."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class PendingRelease:
    """A changed job that is still to be released; `due` is when it may run (monotonic).

    `refused` gets the reason if the broker doesn't take it; None: the job is released unchanged.
    """

    payload: str
    attempts: int
    due: float
    refused: Callable[[str], None] | None = None


class LeaseKeeper:
    """The leases that this process holds at one broker, of `lease` seconds each.

    Any thread may call any method.
    """

    def __init__(self, driver: Driver, lease: float, admission: Admission | None = None) -> None:
        self.driver = driver
        self.lease = lease
        #: Told of every job that leaves; it flushes before a lease ends.
        self.admission = admission or Admission()
        #: Whether acks and releases are written at once, because no loop reserves any more.
        self.write_through = False
        self._held: dict[str, Lease] = {}
        self._in_flight = InFlightJobs()
        self._done: list[Lease] = []
        self._releases: dict[str, PendingRelease] = {}
        self._renewed = time.monotonic()
        self._lock, self._renewing = threading.Lock(), threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def holds(self, token: str) -> bool:
        """Whether this process holds the lease of the job with this token."""
        return token in self._held

    def count_held(self) -> int:
        """Return how many leases this process holds."""
        return len(self._held)

    @property
    def is_late(self) -> bool:
        """Whether leases may have ended because this process stood still.

        They are extended before more jobs are taken.
        """
        return bool(self._held) and time.monotonic() - self._renewed > self.lease * LATE

    @property
    def has_pending_releases(self) -> bool:
        """Whether a changed job is still to be released."""
        return bool(self._releases)

    # --- taken ------------------------------------------------------------------------------------
    def adopt(self, jobs: Iterable[ReservedJob]) -> list[ReservedJob]:
        """Hold the leases of these jobs. Returns the jobs to start: all that are new here."""
        with self._lock:
            if not self._held:
                self._renewed = time.monotonic()
            new = [job for job in jobs if self._adopt(job)]
        self._ensure_thread()
        return new

    def _adopt(self, job: ReservedJob) -> bool:
        if self._in_flight.take_finished(job):
            self._done.append(job.lease)
            logger.warning(
                "job %s came back after its lease had ended: it has run here, and is acked", job.id
            )
            return False
        token = self._in_flight.add(job)
        self._held[token or job.lease.token] = job.lease
        if token is not None:
            self.admission.removed(token)
            logger.warning(
                "job %s came back after its lease had ended: it still runs here, and goes on",
                job.id,
            )
        return token is None

    # --- acked ------------------------------------------------------------------------------------
    def complete(self, token: str) -> None:
        """Ack a job with the next reservation."""
        self.complete_many([token])

    def complete_many(self, tokens: Iterable[str]) -> None:
        """Ack jobs with the next reservation."""
        with self._lock:
            for token in tokens:
                self.admission.removed(token)
                self._in_flight.finish(token)
                if lease := self._held.pop(token, None):
                    self._done.append(lease)
        if self.write_through:
            self.flush()

    def pop_acks(self) -> list[Lease]:
        """Remove and return the acks to be written now. `return_acks` takes back what wasn't."""
        with self._lock:
            done, self._done = self._done, []
        if self.admission.flush():
            return done
        self.return_acks(done)
        return []

    def return_acks(self, leases: list[Lease]) -> None:
        """Take back acks that could not be written."""
        with self._lock:
            self._done[:0] = leases

    def flush(self) -> None:
        """Write the acks. While the broker is away they are kept, and the thread tries again."""
        done = self.pop_acks()
        if not done:
            return
        try:
            self.driver.ack(done)
        except DriverUnavailableError as error:
            self.return_acks(done)
            logger.warning("%d acks wait for the broker: %s", len(done), error)

    # --- released ---------------------------------------------------------------------------------
    def release(self, tokens: Iterable[str], delay: float = 0) -> None:
        """Release jobs unchanged, to run after `delay` seconds.

        While the broker is away their leases are left to end, with the same effect.
        """
        with self._lock:
            leases = [lease for token in tokens if (lease := self._pop(token))]
        if not leases:
            return
        self.admission.flush()
        try:
            self.driver.release(leases, delay)
        except DriverUnavailableError as error:
            logger.warning(
                "%d jobs could not be released and wait for their leases to end: %s",
                len(leases),
                error,
            )

    def release_changed(
        self,
        token: str,
        delay: float,
        payload: str,
        attempts: int,
        refused: Callable[[str], None] | None = None,
    ) -> None:
        """Release a job with a new payload and count, to run after `delay` seconds.

        Its lease is held until that is written. If the broker refuses it, `refused` gets the reason
        and the lease.
        """
        with self._lock:
            due = time.monotonic() + delay
            self._releases[token] = PendingRelease(payload, attempts, due, refused)
        if self.write_through:
            self.write_releases()

    def write_releases(self) -> None:
        """Write the changed releases. While the broker is away they wait, and their delay runs."""
        while self._releases:
            with self._lock:
                token, job = self._releases.popitem() if self._releases else ("", None)
                lease = self._held.get(token) or self._pop(token)
            if job is not None and lease is not None and not self._write_release(token, lease, job):
                return

    def _write_release(self, token: str, lease: Lease, job: PendingRelease) -> bool:
        delay = max(job.due - time.monotonic(), 0)
        self.admission.flush()
        try:
            self.driver.release([lease], delay, job.payload, job.attempts)
        except DriverUnavailableError as error:
            with self._lock:
                self._releases.setdefault(token, job)
            logger.warning("%d releases wait for the broker: %s", len(self._releases), error)
            return False
        except Exception as error:
            logger.exception("the broker refuses a job that is released changed")
            if job.refused is not None:
                # The unchanged job would run this attempt again, and be refused again, without end.
                job.refused(f"it can't be released, the broker refuses it: {error}")
                return True
            self.release([token], delay)
        with self._lock:
            self._pop(token)
        return True

    def _pop(self, token: str) -> Lease | None:
        """Forget a job that has left this process. Returns its lease, if it was still held."""
        self.admission.removed(token)
        self._in_flight.remove(token)
        return self._held.pop(token, None)

    def discard(self, tokens: Iterable[str]) -> None:
        """Forget jobs that were cancelled: the broker has them no longer and is told nothing."""
        with self._lock:
            for token in tokens:
                self.admission.removed(token)
                self._held.pop(token, None)
                self._releases.pop(token, None)

    def close(self) -> None:
        """End the process's leases: write the acks, release what is left, stop the thread."""
        self._stop.set()
        self.write_releases()
        self.flush()
        self.release(list(self._held))
        self.admission.flush()

    # --- extended ---------------------------------------------------------------------------------
    def renew(self) -> bool:
        """Extend every lease once. Returns whether the broker took it."""
        with self._renewing:  # of two, one would forget a lease that the other takes back
            return self._renew()

    def _renew(self) -> bool:
        with self._lock:
            held = dict(self._held)
        leases = list(held.values())
        started = time.monotonic()
        # The lease of a job that ended isn't extended: no permit may depend on it any longer.
        self.admission.flush()
        try:
            ended = {lease.token for lease in self.driver.extend(leases, self.lease)}
            if ended:
                self._take_back(
                    {token: lease for token, lease in held.items() if lease.token in ended}
                )
            if self.write_through:
                self.write_releases()
                self.flush()
        except DriverUnavailableError as error:
            logger.warning("%d leases could not be extended: %s", len(leases), error)
            return False
        except DriverError:
            logger.exception("%d leases could not be extended", len(leases))
            return False
        self._renewed = time.monotonic()
        self._forget(
            {token: lease for token, lease in held.items() if lease.token in ended},
            self._renewed - started,
        )
        return True

    def _take_back(self, ended: Mapping[str, Lease]) -> None:
        """Hold again the jobs whose leases have ended and which no other worker has."""
        with self._lock:
            tokens = {
                name: token
                for token in ended
                if (name := self._in_flight.name_of(token)) is not None
            }
        free = []
        for job in (
            self.driver.hold({id_ for _, id_ in tokens}, self.lease, holder()) if tokens else ()
        ):
            name = (job.lease.key, job.was.id)
            if name not in tokens or not self._go_on(tokens[name], name, job.lease):
                free.append(job)  # another job of the same id, or one that has left meanwhile
        for job in free:
            self.driver.release([job.lease], attempts=job.was.attempts)

    def _go_on(self, token: str, name: Name, lease: Lease) -> bool:
        """Give the job that runs here its new lease. Returns False if it is here no longer."""
        with self._lock:
            if token in self._held:
                self._held[token] = lease
                self.admission.removed(token)
                logger.warning(
                    "the lease of job %s had ended: it still runs here, and goes on", name[1]
                )
            elif self._in_flight.take_finished_name(name):
                self._done.append(lease)
            else:
                return False
        return True

    def _forget(self, ended: Mapping[str, Lease], took: float) -> None:
        with self._lock:
            lost = [token for token, lease in ended.items() if self._held.get(token) == lease]
            for token in lost:
                self.admission.removed(token)
                del self._held[token]
        if lost:
            logger.warning(
                "%d leases had ended, their jobs may run again (the renewal took %.1f s)",
                len(lost),
                took,
            )

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._stop.clear()
            self._thread = threading.Thread(
                target=self._keep_renewing, name="relevo-leases", daemon=True
            )
            self._thread.start()

    def _keep_renewing(self) -> None:
        pause = self.lease / RENEWALS_PER_LEASE
        while not self._stop.wait(pause):
            pause = (
                self.lease / RENEWALS_PER_LEASE
                if self.renew()
                else min(RETRY_SECONDS, self.lease / RENEWALS_PER_LEASE)
            )
