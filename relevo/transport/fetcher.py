"""The fetcher: jobs on their way from the driver to one channel's consumer.

The capacity is Celery's prefetch count, which the preset sets to the number of the pool's places: a
job is handed over when it can start. Beside that, a few jobs are reserved ahead, no more than will
start within AHEAD seconds at the rate just seen, so that short jobs don't cost a transaction each.
A job that waits for longer is released.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from relevo.drivers import message_codec
from relevo.drivers.contract import ReservedJob
from relevo.transport.context import WorkerContext
from relevo.transport.lease_keeper import LeaseKeeper, holder
from relevo.transport.qos import QoS
from relevo.transport.suspensions import Suspensions

# Jobs are reserved ahead that will start within AHEAD seconds, MOST at most. They are released when
# they have waited for STALE seconds.
AHEAD, MOST, STALE = 0.05, 100, 0.5
# Of these, as many as start within so many seconds may wait in the pool's pipe rather than here.
IN_PIPE = 0.02
# Acks wait for the next reservation, but no longer than this, in seconds.
ACK_WITHIN = 0.02


class Fetcher:
    """The jobs that one channel has reserved and not handed over. For the consuming thread only."""

    def __init__(self, keeper: LeaseKeeper, context: WorkerContext) -> None:
        self._driver, self._keeper, self._context = keeper.driver, keeper, context
        self._worker = holder()
        self._reserved: deque[ReservedJob] = deque()
        self._reserved_at = self._acked_at = time.monotonic()
        self._handed_over = 0
        self._exhausted = False
        self._suspensions = Suspensions(keeper.driver)
        #: Whether every job of the last reservation had to be parked, and more such jobs may wait.
        self.only_parked = False

    def next_jobs(self, queues: list[str], qos: QoS, heard: bool) -> Iterator[ReservedJob]:
        """Yield the jobs there is capacity for now, and write the acks that wait.

        `heard`: the notifier says that there may be new jobs.
        """
        self._keeper.write_releases()
        self._exhausted = self._exhausted and not heard
        capacity = qos.capacity()
        if capacity > 0 and not self._reserved and not self._exhausted:
            self._fill(queues, capacity, qos)
        handed = 0
        while handed < capacity and (
            job := self._keeper.admission.next(self._reserved, idle=capacity - handed > qos.ahead)
        ):
            handed += 1
            self._handed_over += 1
            self._context.work_limits.count()
            yield job
        if not handed:
            self._release_stale(qos)

    def reserve(self, queues: list[str], limit: int) -> list[ReservedJob]:
        """Reserve up to `limit` jobs, and write the acks that wait, in one step."""
        if self._keeper.is_late:
            self._keeper.renew()
        self._suspensions.refresh()
        asked = max(limit, MOST) if self.only_parked and limit else limit
        done = self._keeper.pop_acks()
        self._acked_at = time.monotonic()
        try:
            jobs = self._driver.reserve(queues, asked, self._keeper.lease, self._worker, done)
        except BaseException:
            self._keeper.return_acks(done)
            raise
        self._exhausted = len(jobs) < asked
        free = self._suspensions.park(jobs)
        self.only_parked = bool(jobs) and not free and not self._exhausted
        taken, too_many = self._keeper.adopt(free[:limit]), self._keeper.adopt(free[limit:])
        self._keeper.admission.admit(taken)
        if too_many:  # reserved to be parked, but they are not suspended
            self._exhausted = False
            self._keeper.release([job.lease.token for job in too_many])
        return taken

    def discard(self, ids: Collection[str]) -> None:
        """Forget these jobs, which were cancelled: they are not handed over."""
        self._keeper.discard(job.lease.token for job in self._reserved if job.id in ids)
        self._reserved = deque(job for job in self._reserved if job.id not in ids)

    def release_key_at_start(self, job: ReservedJob, headers: Mapping[str, Any]) -> None:
        """Release the unique key of a job that is about to start, if it is to be released then.

        If that can't be written, the job doesn't start.
        """
        late = self._context.late_release_tasks
        if not message_codec.frees_key_at_start(headers) or headers.get("task") in late:
            return
        try:
            self._driver.unlock([job.lease])
        except BaseException:
            self._reserved.appendleft(job)
            raise

    def message_for(self, job: ReservedJob) -> message_codec.Message:
        """Return the message of a job, with its permit. Raises ValueError if it can't be read."""
        return message_codec.from_job(job, self._keeper.admission.permit_of(job.lease.token))

    def release_reserved(self, queue: str | None = None) -> None:
        """Release the jobs that were reserved ahead; with `queue`, only those of this queue."""
        going = [job for job in self._reserved if queue in {None, job.queue}]
        self._reserved = deque(job for job in self._reserved if queue not in {None, job.queue})
        self._keeper.release([job.lease.token for job in going])

    def _fill(self, queues: list[str], capacity: int, qos: QoS) -> None:
        capacity = min(capacity, MOST)  # it is unlimited without a prefetch count
        wanted = min(capacity + self._ahead(qos), self._context.work_limits.left())
        self._reserved.extend(self.reserve(queues, wanted))

    def _ahead(self, qos: QoS) -> int:
        """Return how many more jobs will start within AHEAD seconds, at the rate since the last
        reservation.
        """
        now = time.monotonic()
        rate = self._handed_over / max(now - self._reserved_at, 1e-6)
        self._reserved_at, self._handed_over = now, 0
        qos.allow_ahead(int(IN_PIPE * rate))
        return 0 if qos.is_serial else min(MOST, int(AHEAD * rate))

    def _release_stale(self, qos: QoS) -> None:
        """Release what has waited for too long, and write acks that have waited for long enough."""
        now = time.monotonic()
        qos.recall_if_stuck(STALE)
        if self._reserved and now - self._reserved_at > STALE:
            self.release_reserved()
        if not self._reserved or now - self._acked_at > ACK_WITHIN:
            self._acked_at = now
            self._keeper.flush()
