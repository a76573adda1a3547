"""The prefork pool: Celery's, with a quick stop, and with jobs in its pipe that can be recalled.

The pool is billiard's threaded one (no event loop). Four things are ours:

* **Jobs in the pipe.** Handing over a job only when a child is free costs a round trip through the
  parent per job: 0.6 ms of the parent's CPU, 0.3 ms with three more jobs in the pipe. So while jobs
  are short (the channel measures it), a few more are handed over than there are children.
* **The recall.** A job in the pipe behind a long one would wait while other workers are idle, and a
  warm stop would have to run it. `recall_unstarted` releases the jobs that no child has started.
* **One thread less.** The thread that hands over a small job writes it to the pipe. billiard uses a
  queue and a thread behind it, as a large job still does.
* **The stop.** billiard's threads sleep up to a second before they notice a stop, and so does every
  child before it exits. None has a reason here: a stop ends with the last job.

A recall can't race with a child. Memory that is shared with the children holds the number of the
highest recalled job and, per child, the job that it took last from the pipe.

    child:   started[me] = job; reads `recalled`; job <= recalled? refuse it and answer so : run it
    parent:  recalled = the last job handed over; reads `started`; a job no child has taken is free

Whichever writes first, the other sees it: either the child refuses a job, which the parent then
releases, or the child runs it.
"""

from __future__ import annotations

import mmap
import threading
import time
from functools import partial
from typing import Any

from billiard import get_start_method
from billiard import pool as billiard_pool
from celery.concurrency import ALIASES
from celery.concurrency import prefork as celerys
from celery.utils.log import get_logger
from celery.worker import state

from relevo.execution import stop_flag
from relevo.transport import context, deferred_signals
from relevo.worker.pool.child import REFUSED, Worker
from relevo.worker.pool.pipes import PipeLock, TaskQueue, use_packets
from relevo.worker.pool.supervisors import Supervisor, TimeoutHandler

logger = get_logger(__name__)

# The shared memory has one number for what is recalled, and one for each child.
MOST_CHILDREN = 1023
# How many jobs may wait in the pipe for each child.
PER_CHILD = 4
# Seconds to wait for a child's answer before its job counts as lost with a child that was killed.
DOUBT_SECONDS = 5.0
# The most seconds of these that one check counts for: nothing is read while a machine stands still.
# Checks are 0.8 seconds apart.
CHECK_SECONDS = 1.0
# Seconds to wait for unread results before a killed child's job counts as lost.
UNREAD_SECONDS = 60.0


def register_pool() -> None:
    """Make this the pool of `-P prefork`, which is the default."""
    for name in ("prefork", "processes"):
        ALIASES[name] = f"{__name__}:TaskPool"


class Pool(billiard_pool.Pool):
    """billiard's threaded pool with memory shared with its children."""

    Worker = Worker
    Supervisor = Supervisor
    TimeoutHandler = TimeoutHandler

    def __init__(self, *args: Any, **options: Any) -> None:
        self._memory = mmap.mmap(-1, 8 * (MOST_CHILDREN + 1))
        self.shared = memoryview(self._memory).cast("q")
        self.forked = get_start_method() == "fork"
        self._slot = 0
        self._writing = threading.Lock()
        self._recalled: dict[int, float] = {}
        self._awake, self._checked = 0.0, time.monotonic()
        self._taken = 0
        super().__init__(*args, **options)
        self._taskqueue: Any = TaskQueue(self._taskqueue, self._inqueue._writer, self._writing)  # noqa: SLF001

    def _setup_queues(self) -> None:
        super()._setup_queues()
        self.packets = 0
        if self.forked:
            self.packets = use_packets(self._inqueue._reader, self._inqueue._writer)  # noqa: SLF001
            use_packets(self._outqueue._reader, self._outqueue._writer)  # noqa: SLF001
            self._inqueue._rlock, self._outqueue._wlock = PipeLock(), PipeLock()  # noqa: SLF001
        send = self._inqueue._writer.send  # noqa: SLF001

        def put(task: Any) -> None:
            with self._writing:
                send(task)

        self._quick_put = put

    def _create_worker_process(self, i: int) -> Any:
        self._slot = i + 1
        return super()._create_worker_process(i)

    def WorkerProcess(self, worker: Any) -> Any:  # noqa: N802  billiard's name
        if self.forked and self._slot <= MOST_CHILDREN:
            worker.slot, worker.shared = self._slot, self.shared
            self._taken = max(self._taken, self.shared[self._slot])
            self.shared[self._slot] = 0
        process = super().WorkerProcess(worker)
        process.slot = worker.slot
        if self.forked:
            process.terminate = partial(stop_flag.terminate, process)
        return process

    def terminate_job(self, pid: int, sig: int | None = None) -> None:
        super().terminate_job(pid, stop_flag.effective_signal(sig))

    def process_flush_queues(self, worker: Any) -> None:
        """A child has ended. If it was killed before it could report the job it took, report it."""
        super().process_flush_queues(worker)
        if worker.exitcode not in (billiard_pool.EX_OK, billiard_pool.EX_RECYCLE):
            self.recall_unstarted()
        result = self._cache.get(self.shared[worker.slot] - 1) if worker.slot else None
        if result is not None and not result.accepted():
            result._ack(None, time.monotonic(), worker.pid, None)  # noqa: SLF001

    def on_job_ready(self, job: int, i: Any, obj: Any, inqW_fd: Any) -> None:  # noqa: ARG002, N803
        if obj[1] == REFUSED:
            self._release(job)

    def recall_unstarted(self) -> int:
        """Release every job that no child has started.

        Returns how many were released at once; others may follow. Jobs leave the pipe in the order
        of their numbers. A job behind the last one that was taken is free. A job before it has run,
        and its child's answer is on the way; or its child was killed with it, and no answer comes.
        """
        waiting = [job for job, result in list(self._cache.items()) if not result.accepted()]
        if not waiting or not self.forked:
            return 0
        self.shared[0] = 1 + max(waiting)
        started, due = self._started(), self._awake_seconds() + DOUBT_SECONDS
        for job in waiting:
            if job < self._taken and job not in started:
                self._recalled.setdefault(job, due)
        return sum(self._release(job) for job in waiting if job >= self._taken)

    def _started(self) -> set[int]:
        """Return the job that each child took last. Every taken job has a number below `_taken`."""
        numbers = self.shared[1 : self._processes + 1].tolist()
        self._taken = max(self._taken, *numbers)
        return {number - 1 for number in numbers}

    def _release(self, job: int) -> bool:
        """Release a job that has not been started here, and never will be.

        If the thread that hands it over has not yet noted its request, that is tried again later.
        """
        result = self._cache.get(job)
        request = request_of(result) if result is not None else None
        if request is None:
            self._recalled.setdefault(job, 0.0)
            return False
        if self._cache.pop(job, None) is None:  # another thread was quicker
            return False
        request.reject(requeue=True)
        state.task_ready(request)
        return True

    def _awake_seconds(self) -> float:
        """Return a clock, in seconds, that stands still while the machine does."""
        now = time.monotonic()
        self._awake, self._checked = self._awake + min(now - self._checked, CHECK_SECONDS), now
        return self._awake

    def mark_as_worker_lost(self, job: Any, exitcode: int) -> None:
        """Count the job of a killed child as lost, unless its result may still be unread."""
        since = time.monotonic() - job._worker_lost[0]  # noqa: SLF001
        if since > UNREAD_SECONDS or not self._outqueue._reader.poll(0):  # noqa: SLF001
            super().mark_as_worker_lost(job, exitcode)

    def _join_exited_workers(self, shutdown: bool = False) -> Any:
        """Release recalled jobs whose children gave no answer in time.

        billiard calls this to check for ended children, also during a stop.
        """
        now, started = self._awake_seconds(), self._started()
        for job, due in list(self._recalled.items()):
            result = self._cache.get(job)
            if (
                result is None
                or result.accepted()
                or (due <= now and job not in started and self._release(job))
            ):
                self._recalled.pop(job, None)
        return super()._join_exited_workers(shutdown)


def request_of(result: Any) -> Any:
    """Return the request that belongs to a result of the pool, or None."""
    for request in list(state.reserved_requests):
        if request._apply_result is not None and request._apply_result() is result:  # noqa: SLF001
            return request
    return None


class TaskPool(celerys.TaskPool):
    """Celery's prefork pool on ours."""

    BlockingPool = Pool
    _stopping: deferred_signals.InterruptibleTask | None = None

    def on_start(self) -> None:
        self._stopping = None
        super().on_start()
        if isinstance(self._pool, Pool) and self._pool.forked:
            context.current().pool = self

    def on_stop(self) -> None:
        """Wait for the pool's end.

        A cold stop that comes while a warm one waits calls this again, and waits for the same end.
        """
        if self._stopping is None:
            self._stopping = deferred_signals.InterruptibleTask(super().on_stop)
        self._stopping.wait()

    def restart(self) -> None:
        """Replace every child. Celery's one empty job wakes, and so replaces, only one."""
        self._pool.restart()
        for _ in range(self.num_processes):
            self._pool.apply_async(celerys.noop)

    def on_close(self) -> None:
        stop_flag.request_stop()  # also if no signal did
        self.recall_unstarted()
        super().on_close()

    def most_waiting(self) -> int:
        """Return how many jobs may wait in the pipe."""
        waiting = PER_CHILD * self.num_processes
        packets = self._pool.packets if isinstance(self._pool, Pool) else 0
        # One place is kept for each child: a full pipe would make the consumer wait.
        return min(waiting, max(packets - self.num_processes, 0)) if packets else waiting

    def recall_unstarted(self) -> int:
        """Release the jobs that wait in the pipe. Returns how many were released at once."""
        if recalled := self._pool.recall_unstarted() if isinstance(self._pool, Pool) else 0:
            logger.info("%d jobs that had not started were released", recalled)
        return recalled
