"""The thread that looks after the pool's children beside the consuming loop.

It ends jobs whose time is over, notices children that have died without closing their pipe (what
they forked may hold it open), and kills those that don't come up. It collects answers, too, where
no loop does: the loop is busy, or the worker's broker is another's.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import Any, Protocol

from billiard.exceptions import TimeLimitExceeded
from celery.utils.log import get_logger

from relevo.worker.pool.child_process import ChildProcess
from relevo.worker.pool.work import Work, call_back, info_of

logger = get_logger(__name__)


class Processes(Protocol):
    """The children that are looked after (`processes`)."""

    lock: Any
    attended: float
    children: list[ChildProcess]

    def wait(self, seconds: float) -> None: ...

    def collect_for_the_loop(self) -> None: ...

    def requeue(self, works: list[Work]) -> None: ...


# Seconds between two looks, and without the loop's attention after which the keeper collects.
LOOK_SECONDS = 0.3
# Seconds that a child gets between SIGTERM and SIGKILL when its job's time is over.
KILL_SECONDS = 0.1


class Keeper:
    """Looks after the children of `processes`, as long as this process lives."""

    def __init__(self, processes: Processes, start_seconds: float | None) -> None:
        self._processes, self._start_seconds = processes, start_seconds
        self._thread = threading.Thread(target=self._run, name="relevo-pool", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pool = self._processes
        while True:  # for ever: Linux kills children when the thread ends that has forked them
            pause = self._seconds_to_next_look()
            if time.monotonic() - pool.attended > LOOK_SECONDS:
                pool.wait(pause)
                pool.collect_for_the_loop()
            else:
                time.sleep(pause)
            try:
                self.look()
            except Exception:
                logger.exception("the children of the pool could not be looked after")

    def _seconds_to_next_look(self) -> float:
        with self._processes.lock:
            kills = [each.kill_at for each in self._processes.children if each.kill_at is not None]
        return max(0.0, min(kills) - time.monotonic()) if kills else LOOK_SECONDS

    def look(self) -> None:
        """Look after every child once."""
        with self._processes.lock:
            for each in list(self._processes.children):
                self._look_after(each, time.monotonic())
            if any(each.pipe.is_closed for each in self._processes.children):
                self._processes.collect_for_the_loop()

    def _look_after(self, each: ChildProcess, now: float) -> None:
        if each.kill_at is not None and now >= each.kill_at:
            each.kill(signal.SIGKILL)
            each.kill_at = None
        if each.process.exitcode is not None:
            # What it has said before is read first.
            each.pipe.is_closed = not each.pipe.has_pending()
        elif each.is_ready:
            self._limit(each, now)
        elif self._start_seconds and now - each.started > self._start_seconds:
            logger.error("child process %d did not come up in time", each.pid)
            each.kill(signal.SIGKILL)

    def _limit(self, busy: ChildProcess, now: float) -> None:
        work = busy.running()
        if work is None or work.is_over:
            return
        hard, soft = busy.hard_end(work), busy.soft_end(work)
        if hard and now >= hard:
            self._end_late(busy, work, round(hard - busy.since(), 3))
        elif soft and now >= soft and not work.soft_told:
            work.soft_told = True
            work.accept(busy.pid, busy.since())
            call_back(work.on_timeout, soft=True, timeout=round(soft - busy.since(), 3))
            busy.kill(signal.SIGUSR1)

    def _end_late(self, busy: ChildProcess, work: Work, seconds: float) -> None:
        self._processes.requeue(busy.recall())
        work.accept(busy.pid, busy.since())
        busy.queue.remove(work)
        busy.was_terminated = True
        work.end(False, info_of(TimeLimitExceeded(seconds)))
        call_back(work.on_timeout, soft=False, timeout=seconds)
        busy.kill(signal.SIGTERM)
        busy.kill_at = time.monotonic() + KILL_SECONDS
