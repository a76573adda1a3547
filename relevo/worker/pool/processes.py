"""The child processes of the prefork pool, as the main process sees them: what each has to do, what
it says, and what becomes of a job whose child dies.

    apply_async -> ready -> a child's queue -> its answer -> the callbacks of the job
                              | recalled: not started, and never will be there
                              | its child died: lost, if the child had taken it; else ready again

Each child has a queue of its own, of one job, or of a few while jobs are short. How a recall can't
race with a child: the memory shared with it holds the highest recalled number and the number that
the child has last taken from its pipe.

    child:   taken = job; reads `recalled`;  job <= recalled?  refuse, and say so : run
    parent:  recalled = the last job sent;  reads `taken`;  a later job than that is free at once

Whichever writes first, the other sees it: a job is either refused by its child, or run. The
consuming loop waits for the children's pipes together with the broker, and calls `collect`. Beside
it a thread looks after the children (`Keeper`), and collects where no loop does.
"""

from __future__ import annotations

import itertools
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from billiard.common import human_status
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, WorkerLostError
from billiard.pool import EX_OK, EX_RECYCLE
from celery.utils.log import get_logger

from relevo.execution import stop_flag
from relevo.worker.pool import child as childs
from relevo.worker.pool import child_process, pipe
from relevo.worker.pool.child import Limits
from relevo.worker.pool.child_process import ChildProcess, Slots
from relevo.worker.pool.keeper import KILL_SECONDS, LOOK_SECONDS, Keeper
from relevo.worker.pool.work import Work, info_of

logger = get_logger(__name__)

# Jobs in the queue of a child: the one that it runs, and so many behind it.
BEHIND = 32
# A job behind one that has run for so many seconds is called back when another child is idle.
STUCK_SECONDS = 0.005

# After so many children for each place that end before they are ready, the pool gives up.
MAX_FAILED_STARTS = 10
# Seconds between two looks for the last children that end.
JOIN_SECONDS = 0.005

_numbers = itertools.count(1)


class Processes:
    """The children, `size` of them. Any thread may call any method."""

    def __init__(
        self,
        size: int,
        limits: Limits,
        *,
        soft: float | None = None,
        hard: float | None = None,
        start_seconds: float | None = None,
        on_broken: Callable[[], None] | None = None,
    ) -> None:
        self.size, self._limits = size, limits
        self._soft, self._hard = soft, hard
        self._on_broken = on_broken
        self._slots = Slots()
        self.lock = threading.RLock()
        self.children: list[ChildProcess] = []
        self._ready: deque[Work] = deque()
        self.is_closed = False
        self._failed_starts = 0
        self.attended = 0.0
        #: Takes back a job that no child has started, for good: puts it back to its queue.
        self.give_back: Callable[[Work], None] = lambda _work: None
        for _ in range(size):
            self._start()
        self._keeper = Keeper(self, start_seconds)

    # --- jobs -------------------------------------------------------------------------------------
    def apply_async(
        self,
        target: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        *,
        callback: Callable[..., Any] | None = None,
        error_callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        timeout_callback: Callable[..., Any] | None = None,
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_options: Any,
    ) -> Work:
        """Have a child call `target`; billiard's signature."""
        work = Work(target, (args, kwargs or {}))
        work.on_ended, work.on_failed = callback, error_callback
        work.on_accepted, work.on_timeout = accept_callback, timeout_callback
        work.announced = accept_callback is not None
        work.soft, work.hard = soft_timeout or self._soft, timeout or self._hard
        self.send_all([work])
        return work

    def send_all(self, works: Iterable[Work]) -> None:
        """Have children do these, in groups."""
        with self.lock:
            self._ready.extend(works)
            self._feed()

    @contextmanager
    def held(self) -> Iterator[list[Work]]:
        """Every job of the pool, while none of them can end."""
        with self.lock:
            for each in self.children:
                if (running := each.running()) is not None:
                    running.accept(each.pid, each.since())
            yield [*(work for each in self.children for work in each.queue), *self._ready]

    def _feed(self) -> None:
        """Send what is ready to the children that have the shortest queues."""
        groups: dict[ChildProcess, list[Work]] = {}
        staying = [each for each in self.children if not each.is_retiring]
        free = [each for each in staying if each.is_ready]
        # Behind another job only when no child is still to come up: that one will be idle.
        behind = BEHIND if len(free) == len(staying) else 0
        while self._ready and free:
            chosen = min(free, key=_length)
            if len(chosen.queue) > behind:
                break
            work = self._ready.popleft()
            work.number = next(_numbers)
            chosen.queue.append(work)
            groups.setdefault(chosen, []).append(work)
        for chosen, works in groups.items():
            self._send(chosen, works)

    def _send(self, chosen: ChildProcess, works: list[Work]) -> None:
        try:
            chosen.pipe.send(pipe.dumps([work.call() for work in works]))
        except Exception:  # noqa: BLE001  one of them can't be sent: each alone
            for work in works:
                try:
                    chosen.pipe.send(pipe.dumps([work.call()]))
                except Exception:  # noqa: BLE001  whatever its arguments do when they are pickled
                    chosen.queue.remove(work)
                    work.end(False, ExceptionInfo())

    def collect(self) -> bool:
        """Read what the children have answered, and do what follows. Returns whether any has."""
        with self.lock:
            self.attended = time.monotonic()
            found = False
            for each in list(self.children):
                if each.pipe.wants_to_write:
                    each.pipe.flush()
                for message in each.pipe.receive():
                    found = True
                    self._hear(each, message)
                if each.pipe.is_closed:
                    self._bury(each)
                    found = True
            self._feed()
            self._balance()
            return found

    def _hear(self, speaker: ChildProcess, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == childs.READY:
            speaker.is_ready, self._failed_starts = True, 0
            return
        work = next((each for each in speaker.queue if each.number == message[1]), None)
        if work is None:  # recalled, or ended by its time limit
            return
        if kind == childs.STARTED:
            work.accept(speaker.pid, message[2])
            return
        speaker.queue.remove(work)
        if kind == childs.REFUSED:
            self._release(work)
            return
        work.end(message[2], message[3])
        if speaker.is_retiring and not speaker.queue:
            self._dismiss(speaker)

    def _release(self, work: Work) -> None:
        if self.is_closed:
            self.give_back(work)
        else:
            self._ready.appendleft(work)

    def _balance(self) -> None:
        """A job that waits behind a long one goes to a child that has none."""
        idle = [each for each in self.children if each.is_ready and not each.queue]
        if not idle or self._ready:
            return
        now = time.monotonic()
        for each in self.children:
            if len(each.queue) > 1 and now - each.since() > STUCK_SECONDS:
                self._ready.extend(each.recall())
        self._feed()

    @property
    def is_uneven(self) -> bool:
        """Whether a child is idle while jobs wait behind another's: to be looked at again soon."""
        queues = [len(each.queue) for each in self.children]
        return 0 in queues and any(length > 1 for length in queues)

    def recall(self) -> int:
        """Give back every job that no child has started. Returns how many are free at once."""
        with self.lock:
            free = [*self._ready]
            self._ready.clear()
            for each in self.children:
                free += each.recall()
            for work in free:
                self.give_back(work)
            return len(free)

    # --- children ---------------------------------------------------------------------------------
    def _start(self) -> None:
        slot, shared = self._slots.take()
        others = [each.pipe.fileno() for each in self.children] if self._slots.forked else []
        self.children.append(child_process.start(self._limits, slot, shared, others))

    def requeue(self, works: list[Work]) -> None:
        self._ready.extend(works)

    def _bury(self, dead: ChildProcess) -> None:
        """A child has ended, or has closed its pipe: what it had to do is lost, or another's."""
        process = dead.process
        process.join(1.0)
        if process.exitcode is None:
            dead.kill(signal.SIGKILL)
            process.join()
        self.children.remove(dead)
        dead.pipe.close()
        code = process.exitcode
        if code not in (EX_OK, EX_RECYCLE) and not dead.was_terminated:
            logger.error("child process %d exited with %s", dead.pid, human_status(code))
        taken, since = dead.taken(), dead.since()
        # Whatever its exit code: a job that has ended, or was refused, is in no queue any more.
        lost = [work for work in dead.queue if work.number == taken]
        for work in reversed([each for each in dead.queue if each not in lost]):
            self._release(work)
        self._slots.free(dead.slot)
        for work in lost:
            work.accept(dead.pid, since or time.monotonic())
            self._lose(work, dead, code)
        self._refill(dead)

    def _lose(self, work: Work, dead: ChildProcess, code: int | None) -> None:
        lost = f"Worker exited prematurely: {human_status(code)} Job: {work.number}."
        error = Terminated(-(code or 0)) if dead.was_terminated else WorkerLostError(lost)
        work.end(False, info_of(error))

    def _refill(self, dead: ChildProcess) -> None:
        if self.is_closed and not self._ready:
            return
        if not dead.is_ready and not dead.was_terminated:
            self._failed_starts += 1
            if self._failed_starts > MAX_FAILED_STARTS * self.size:
                logger.error("the children of the pool end before they are ready")
                self.is_closed = True
                if self._on_broken is not None:
                    self._on_broken()
                return
        if sum(not each.is_retiring for each in self.children) < self.size:
            self._start()

    def _dismiss(self, idle: ChildProcess) -> None:
        """Let a child end: it has nothing more to do."""
        idle.is_retiring = True
        idle.pipe.send(pipe.dumps(None))

    def grow(self, count: int = 1) -> None:
        with self.lock:
            self.size += count
            for _ in range(count):
                self._start()

    def shrink(self, count: int = 1) -> None:
        """Let so many children end after their jobs. Raises ValueError for all of them."""
        with self.lock:
            if count >= self.size:
                raise ValueError(f"expected to keep a process, got {count} of {self.size} to end")
            self.size -= count
            self._retire(count)

    def _retire(self, count: int) -> list[ChildProcess]:
        free = [each for each in self.children if not each.is_retiring]
        going = sorted(free, key=lambda each: len(each.queue))[:count]
        for each in going:
            each.is_retiring = True
            for work in each.recall():
                self._ready.append(work)
            if not each.queue:
                self._dismiss(each)
        self._feed()
        return going

    def restart(self) -> None:
        """Replace every child, each when it has ended what it runs."""
        with self.lock:
            for _ in self._retire(len(self.children)):
                self._start()

    def terminate_job(self, pid: int, signum: int | None = None) -> None:
        """Kill a child in the midst of its job."""
        with self.lock:
            for each in self.children:
                if each.pid == pid:
                    each.was_terminated = True
                    self._ready.extend(each.recall())
                    each.kill(stop_flag.effective_signal(signum or signal.SIGTERM))

    # --- looking after them -----------------------------------------------------------------------
    def filenos(self) -> list[int]:
        """What becomes readable when a child has answered. Who waits for them collects."""
        self.attended = time.monotonic()
        return [each.pipe.fileno() for each in self.children if not each.pipe.is_closed]

    def collect_for_the_loop(self) -> None:
        """The loop is busy, or there is none that waits for the children."""
        with self.lock:
            attended = self.attended
            try:
                self.collect()
            except Exception:
                logger.exception("the answers of children could not be read")
            self.attended = attended

    def wait(self, seconds: float) -> None:
        with self.lock:
            filenos = [each.pipe.fileno() for each in self.children if not each.pipe.is_closed]
        poll = select.poll()
        for fileno in filenos:
            poll.register(fileno, select.POLLIN)
        poll.poll(seconds * 1000)

    # --- the end ----------------------------------------------------------------------------------
    def close(self) -> None:
        """Take nothing more; what has not started goes back."""
        self.is_closed = True
        self.recall()

    @property
    def in_flight(self) -> int:
        return len(self._ready) + sum(len(each.queue) for each in self.children)

    def finish(self) -> None:
        """Wait until every job has ended, and every child."""
        self.is_closed = True
        while self.in_flight:
            self.wait(LOOK_SECONDS)
            self.collect_for_the_loop()
            self._keeper.look()
        with self.lock:
            for each in self.children:
                self._dismiss(each)
        self._join(60.0)

    def terminate(self) -> None:
        """Kill the children. What they ran is not told of."""
        with self.lock:
            self.is_closed = True
            for each in self.children:
                each.was_terminated = True
                each.kill(signal.SIGTERM)
        self._join(KILL_SECONDS)

    def _join(self, seconds: float) -> None:
        """Wait until the children have ended; kill what hasn't after so many seconds."""
        end = time.monotonic() + seconds
        while leaving := self._living():
            if time.monotonic() > end:
                for each in leaving:
                    each.kill(signal.SIGKILL)
            self.wait(JOIN_SECONDS)  # a child that ends closes its pipe
            time.sleep(JOIN_SECONDS)

    def _living(self) -> list[ChildProcess]:
        with self.lock:  # of two threads that look at once, one would find the process closed
            return [each for each in self.children if each.process.exitcode is None]


def _length(child: ChildProcess) -> int:
    return len(child.queue)
