"""The prefork pool: Celery's place for it, filled with our own children (`processes`).

Celery's own pool stays where a worker's broker has an event loop (SQS): it needs one.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from billiard import forking_enable, set_start_method
from celery import signals
from celery.concurrency import ALIASES
from celery.concurrency import prefork as celerys
from celery.utils.log import get_logger

from relevo.execution import stop_flag
from relevo.transport import context, deferred_signals
from relevo.worker.pool.child import Limits
from relevo.worker.pool.processes import BEHIND, STUCK_SECONDS, Processes
from relevo.worker.pool.work import Work

logger = get_logger(__name__)


def register_pool() -> None:
    """Make this the pool of `-P prefork`, which is the default."""
    for name in ("prefork", "processes"):
        ALIASES[name] = f"{__name__}:TaskPool"


class TaskPool(celerys.TaskPool):
    """Celery's prefork pool on our children."""

    _ending: deferred_signals.InterruptibleTask | None = None

    def on_start(self) -> None:
        self._ending = None
        if not self.options.get("threads", True):
            super().on_start()
            return
        if self.forking_enable:
            forking_enable(True)
        else:
            os.environ["FORKED_BY_MULTIPROCESSING"] = "1"
            set_start_method("spawn", force=True)
        given = self.options
        self._pool: Any = Processes(
            self.limit,
            Limits(
                celerys.process_initializer,
                given.get("initargs", ()),
                celerys.process_destructor,
                given.get("maxtasksperchild"),
                given.get("max_memory_per_child"),
                given.get("soft_timeout"),
                given.get("timeout"),
            ),
            soft=given.get("soft_timeout"),
            hard=given.get("timeout"),
            start_seconds=self.app.conf.worker_proc_alive_timeout if self.app else None,
            on_broken=_end_worker,
        )
        self._pool.give_back = _give_back
        self.on_apply = self._pool.apply_async
        self.terminate_job = self._pool.terminate_job
        self.grow, self.shrink = self._pool.grow, self._pool.shrink
        self.maintain_pool = self._pool.collect
        context.current().pool = self

    @property
    def processes(self) -> Processes | None:
        """The children, where they are ours."""
        return self._pool if isinstance(self._pool, Processes) else None

    def restart(self) -> None:
        if self.processes is None:
            super().restart()
        else:
            self.processes.restart()

    def did_start_ok(self) -> bool:
        return self.processes is not None or bool(super().did_start_ok())

    def on_stop(self) -> None:
        """Wait for what runs. A cold stop that comes while this one waits for jobs calls it again,
        and waits for the same end.
        """
        if self._ending is None:
            ours = self.processes
            self._ending = deferred_signals.InterruptibleTask(
                super().on_stop if ours is None else ours.finish
            )
        self._ending.wait()

    def on_terminate(self) -> None:
        if self.processes is None:
            super().on_terminate()
        else:
            self.processes.terminate()

    def on_close(self) -> None:
        stop_flag.request_stop()  # also where no signal said so
        if self.processes is None:
            super().on_close()
        else:
            self.processes.close()

    def most_waiting(self) -> int:
        """How many jobs may wait behind those that run."""
        return BEHIND * self.num_processes

    def recall_unstarted(self) -> int:
        """Take back what has not started, and let nothing more wait until it is asked for again."""
        recalled = self.processes.recall() if self.processes is not None else 0
        if recalled:
            logger.info("%d jobs that had not started were released", recalled)
        return recalled

    def collect(self) -> None:
        if self.processes is not None:
            self.processes.collect()

    def filenos(self) -> list[int]:
        return self.processes.filenos() if self.processes is not None else []

    def seconds_to_look(self) -> float:
        uneven = self.processes is not None and self.processes.is_uneven
        return STUCK_SECONDS if uneven else float("inf")

    def jobs_in_flight(self) -> int:
        return self.processes.in_flight if self.processes is not None else 0

    def _get_info(self) -> dict[str, Any]:
        if self.processes is None:
            return dict(super()._get_info())
        given = self.options
        return {
            "implementation": f"{type(self).__module__}:{type(self).__name__}",
            "max-concurrency": self.processes.size,
            "processes": [each.pid for each in self.processes.children],
            "max-tasks-per-child": given.get("maxtasksperchild") or "N/A",
            "put-guarded-by-semaphore": self.putlocks,
            "timeouts": (given.get("soft_timeout") or 0, given.get("timeout") or 0),
            "writes": "N/A",
        }

    @property
    def num_processes(self) -> int:
        return self.processes.size if self.processes is not None else int(super().num_processes)


def _give_back(work: Work) -> None:
    """A job goes back to its queue: it has not been started, and never will be here."""
    if (owner := work.owner) is not None:
        owner.release_unstarted()


def _end_worker() -> None:
    signals.worker_shutting_down.send(sender=None, sig="the pool is broken", how="Warm", exitcode=1)
    os.kill(os.getpid(), signal.SIGTERM)
