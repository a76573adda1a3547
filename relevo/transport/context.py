"""The context of a process: everything that a worker needs to hold its jobs and to end them.

A worker's context is made when the worker starts (`start_worker`) and filled in one place,
`relevo/app.py`. It is handed down: Transport -> Channel -> QoS, Fetcher, LeaseKeeper. Celery makes
the transport, the pool, the consumer and the requests itself and hands them nothing of ours; these
ask for `current()`.

A process that is no worker has a context, too: the default one, which holds leases for a plain
kombu consumer and knows how to clear a queue. A forked child gets a new default context, because
the leases, the recorder and the pool belong to its parent; only the stop byte is shared.
"""

from __future__ import annotations

import atexit
import mmap
import os
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from relevo.drivers.contract import Driver
from relevo.transport.admission import Admission
from relevo.transport.dead_letter import DeadLetterHandler
from relevo.transport.lease_keeper import LeaseKeeper
from relevo.transport.waker import Waker
from relevo.transport.work_limits import WorkLimits


class Pool(Protocol):
    """A pool in whose pipe jobs may wait, and which can recall those that have not started."""

    def most_waiting(self) -> int:
        """Return how many jobs may wait in the pipe."""

    def recall_unstarted(self) -> int:
        """Release the jobs that no child has started. Returns how many were released at once."""

    def collect(self) -> None:
        """Read what the children have answered, and do what follows."""

    def filenos(self) -> list[int]:
        """Return what becomes readable when a child answers."""

    def seconds_to_look(self) -> float:
        """Return the seconds until the pool wants to be looked at again."""

    def jobs_in_flight(self) -> int:
        """Return how many jobs the pool has, running and waiting."""


class Shipper(Protocol):
    """Takes jobs as they are, without a message (`relevo/worker/shipping.py`)."""

    def is_open(self, channel: Any) -> bool:
        """Return whether jobs may take the short way now."""

    def ship(self, channel: Any, job: Any) -> bool:
        """Take a job. Returns False for one that has to go the long way."""

    def flush(self) -> None:
        """Send what was taken."""

    def promote_all(self) -> None:
        """Make requests of all jobs on the short way."""

    def go_long(self, task: str) -> None:
        """Send the jobs of this task the long way from now on."""

    def take_long_way(self) -> list[Any]:
        """Return the jobs that have come back to go the long way."""


class OutcomeRecorder(Protocol):
    """Writes how jobs ended, and acks them then (`relevo/recording/recorder.py`)."""

    write: Callable[[Sequence[Any]], None]
    refused: int

    @property
    def is_idle(self) -> bool:
        """Whether no record waits or is being written."""

    @property
    def is_full(self) -> bool:
        """Whether so many records wait that ended jobs keep their places."""

    def add(self, record: Any, done: Callable[[list[Any]], None], item: Any = None) -> None:
        """Write `record` with the next group; call `done` with the items of the group then."""

    def stop(self) -> None:
        """Write the records that wait, and end."""


@dataclass(eq=False)
class WorkerContext:
    """What one process needs to hold jobs and to end them. The defaults are of a process that is no
    worker.
    """

    #: A worker's leases outlive its channels: its consumer may reconnect while jobs run.
    is_worker: bool = False
    #: Clears a queue and counts the jobs of batches. Returns None for a broker of no app.
    clear_queue: Callable[[Driver, str], int | None] | None = None
    #: When this worker stops by itself.
    work_limits: WorkLimits = field(default_factory=WorkLimits)
    #: Makes the admission of each broker.
    make_admission: Callable[[Driver], Admission] = lambda _driver: Admission()
    #: Tasks whose jobs give back their unique key themselves, behind their limits.
    late_release_tasks: Collection[str] = frozenset()
    #: Stores jobs that can't be run.
    dead_letter_handler: DeadLetterHandler | None = None
    #: Records how jobs end; None where nothing is recorded and jobs are acked at once.
    recorder: OutcomeRecorder | None = None
    #: Whether the jobs that follow from the records so far are in their brokers.
    is_outbox_sent: Callable[[], bool] = lambda: True
    #: Whether the job of a request is a member of a cancelled batch, and must not start.
    is_cancelled_member: Callable[[Any], bool] = lambda _request: False
    #: The pool, if it can take back jobs. Set by the pool when it starts.
    pool: Pool | None = None
    #: The short way of jobs to the pool's children. Set by the consumer.
    shipper: Shipper | None = None
    #: Whether the pool runs a job where it is handed over (solo). Set by the consumer.
    is_serial: bool = False
    #: One byte, shared with the pool processes: the stop that was asked for (execution/stop_flag).
    stop_byte: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 1))
    #: Whether this process can start its program again, and was told to (worker/restart.py).
    can_restart: bool = False
    restart_requested: bool = False
    #: Called when the worker ends, while its leases are still held.
    at_end: list[Callable[[], None]] = field(default_factory=list)
    pid: int = field(default_factory=os.getpid)
    _keepers: dict[int, LeaseKeeper] = field(default_factory=dict)
    _wakers: weakref.WeakSet[Waker] = field(default_factory=weakref.WeakSet)

    def keeper_for(self, driver: Driver, lease_seconds: float) -> LeaseKeeper:
        """Return the lease keeper for a broker: one per process, for all connections to it."""
        if id(driver) not in self._keepers:  # a keeper holds its driver, so the id stays its own
            self._keepers[id(driver)] = LeaseKeeper(
                driver, lease_seconds, self.make_admission(driver)
            )
        return self._keepers[id(driver)]

    def add_waker(self, waker: Waker) -> None:
        """Have `wake` end the waits on this waker."""
        self._wakers.add(waker)

    def wake(self) -> None:
        """Wake every loop that waits for jobs, so that it sees a stop at once."""
        for waker in list(self._wakers):
            waker.ring()

    def recall_unstarted(self) -> None:
        """Release the jobs that wait in the pool's pipe, if the pool can."""
        if self.pool is not None:
            self.pool.recall_unstarted()

    def is_settled(self, keeper: LeaseKeeper) -> bool:
        """Whether nothing more can follow from jobs that have ended: each has its record, and the
        jobs that were handed in with it (callbacks, a chord's body) are in their brokers.

        Asked in this order: what has left one place is in the next.
        """
        recorder = self.recorder
        if recorder is None:
            return True
        # A job that has just ended is held until its record is written.
        held = keeper.count_held() - recorder.refused
        return held <= 0 and recorder.is_idle and self.is_outbox_sent()

    def stop_recording(self) -> None:
        """Write the records that wait. What ends from now on is acked without a record."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.stop()

    def finish(self) -> None:
        """Do what `at_end` lists, once."""
        while self.at_end:
            self.at_end.pop(0)()

    def close(self) -> None:
        """End the worker: record what has ended, ack what is done, release what is left."""
        self.finish()
        for keeper in list(self._keepers.values()):
            keeper.close()
        # This worker may run inside another program (a test), which goes on.
        self.is_worker = False


#: The only process-wide variable of this kind. Set here; read by whatever Celery or kombu makes.
_current = WorkerContext()


def current() -> WorkerContext:
    """Return the context of this process; in a forked child, a new default context."""
    global _current  # noqa: PLW0603  one a process
    if _current.pid != os.getpid():
        _current = WorkerContext(clear_queue=_current.clear_queue, stop_byte=_current.stop_byte)
    return _current


def start_worker(**_signal: Any) -> None:
    """Make the context of a worker, which starts in this process. Receives `worker_init`."""
    global _current  # noqa: PLW0603
    before = current()
    before.finish()  # a worker that ran in this process before may not have ended properly
    _current = WorkerContext(
        is_worker=True,
        clear_queue=before.clear_queue,
        work_limits=before.work_limits,
        can_restart=before.can_restart,
    )
    atexit.register(end_worker)  # Celery sends no signal at the end of a cold stop


def wake_worker(**_signal: Any) -> None:
    """Wake the worker of this process, which is to stop. Receives `worker_shutting_down`."""
    current().wake()


def end_worker(**_signal: Any) -> None:
    """End the worker of this process. Receives `worker_shutdown`."""
    current().close()
