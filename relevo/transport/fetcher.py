"""Jobs on their way from the driver to one channel's consumer: reserved, a few of them ahead, put
back if they wait.

Room is Celery's prefetch count, which the preset makes the number of the pool's places: a job is
handed over when it can start. Beside that a few jobs are reserved ahead, no more than will start
within AHEAD seconds at the rate just seen, so that short jobs don't pay a transaction each; what
turns out to wait for longer goes back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from relevo.drivers import message_codec
from relevo.drivers.contract import Driver, ReservedJob
from relevo.transport import admission, work_limits
from relevo.transport.admission import Gate
from relevo.transport.lease_keeper import Ledger
from relevo.transport.leases import holder
from relevo.transport.qos import QoS
from relevo.transport.suspensions import Suspensions

# Reserved ahead: what will start within AHEAD seconds, MOST at most; put back when it has waited
# for STALE seconds.
AHEAD, MOST, STALE = 0.05, 100, 0.5
# Of these, so many seconds' worth may wait in the pool's pipe rather than here.
IN_PIPE = 0.02
# Acks wait for the next reservation, but no longer than this, in seconds.
ACK_WITHIN = 0.02


class Intake:
    """What one channel has reserved and not handed over. Used by the consuming thread only."""

    def __init__(self, driver: Driver, ledger: Ledger) -> None:
        self._driver, self._ledger = driver, ledger
        self._worker = holder()
        self._reserved: deque[ReservedJob] = deque()
        self._reserved_at = self._collected_at = time.monotonic()
        self._handed = 0
        self._exhausted = False
        self._suspensions = Suspensions(driver)
        #: Whether all that the last reservation brought had to be parked, and there may be more of
        #: the same behind.
        self.parks = False

    def jobs(self, queues: list[str], qos: QoS, heard: bool) -> Iterator[ReservedJob]:
        """The jobs there is room for now; acks that wait are written. `heard`: the bell says there
        may be new ones.
        """
        self._ledger.write_back()
        self._exhausted = self._exhausted and not heard
        room = qos.room()
        if room > 0 and not self._reserved and not self._exhausted:
            self._fill(queues, room, qos)
        handed = 0
        while handed < room and (
            job := self._gate.next(self._reserved, idle=room - handed > qos.waiting)
        ):
            handed += 1
            self._handed += 1
            work_limits.took()
            yield job
        if not handed:
            self._tidy(qos)

    @property
    def _gate(self) -> Gate:
        return self._ledger.gate

    def reserve(self, queues: list[str], limit: int) -> list[ReservedJob]:
        """Take up to `limit` jobs, and write the acks that wait, in one step."""
        if self._ledger.is_late:
            self._ledger.renew()
        self._suspensions.look()
        asked = max(limit, MOST) if self.parks and limit else limit
        done = self._ledger.collect()
        self._collected_at = time.monotonic()
        try:
            jobs = self._driver.reserve(queues, asked, self._ledger.lease, self._worker, done)
        except BaseException:
            self._ledger.uncollect(done)
            raise
        self._exhausted = len(jobs) < asked
        free = self._suspensions.park(jobs)
        self.parks = bool(jobs) and not free and not self._exhausted
        taken, too_many = self._ledger.take(free[:limit]), self._ledger.take(free[limit:])
        self._gate.enter(taken)
        if too_many:  # they were asked for to be parked, and needn't be
            self._exhausted = False
            self._ledger.release([job.lease.token for job in too_many])
        return taken

    def drop(self, ids: Collection[str]) -> None:
        """Don't hand these over: they were cancelled."""
        self._ledger.drop(job.lease.token for job in self._reserved if job.id in ids)
        self._reserved = deque(job for job in self._reserved if job.id not in ids)

    def starts(self, job: ReservedJob, headers: Mapping[str, Any]) -> None:
        """The job is about to start. If it gives its unique key back then, it doesn't start before
        that is written.
        """
        if not message_codec.frees_key_at_start(headers) or headers.get("task") in admission.late:
            return
        try:
            self._driver.unlock([job.lease])
        except BaseException:
            self._reserved.appendleft(job)
            raise

    def message_of(self, job: ReservedJob) -> message_codec.Message:
        """The message of a job, with the permit that it has been given. Raises ValueError if
        unreadable.
        """
        return message_codec.from_job(job, self._gate.permit_of(job.lease.token))

    def put_back(self, queue: str | None = None) -> None:
        """Nothing more is handed over, or nothing of one queue: what was reserved ahead is free
        again.
        """
        going = [job for job in self._reserved if queue in {None, job.queue}]
        self._reserved = deque(job for job in self._reserved if queue not in {None, job.queue})
        self._ledger.release([job.lease.token for job in going])

    def _fill(self, queues: list[str], room: int, qos: QoS) -> None:
        room = min(room, MOST)  # it is without end where nobody set a prefetch count
        wanted = min(room + self._ahead(qos), work_limits.left())
        self._reserved.extend(self.reserve(queues, wanted))

    def _ahead(self, qos: QoS) -> int:
        """How many jobs beyond the room will start within AHEAD seconds, at the rate since the last
        reservation.
        """
        now = time.monotonic()
        rate = self._handed / max(now - self._reserved_at, 1e-6)
        self._reserved_at, self._handed = now, 0
        qos.allow_waiting(int(IN_PIPE * rate))
        return 0 if qos.is_serial else min(MOST, int(AHEAD * rate))

    def _tidy(self, qos: QoS) -> None:
        now = time.monotonic()
        qos.recall_if_stuck(STALE)
        if self._reserved and now - self._reserved_at > STALE:
            self.put_back()
        if not self._reserved or now - self._collected_at > ACK_WITHIN:
            self._collected_at = now
            self._ledger.flush()
