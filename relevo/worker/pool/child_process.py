"""One child, as the main process sees it: its process, its pipe, and the jobs in its queue.

The memory shared with it says which job it has taken last from its pipe, since when, and until when
that may run. A spawned child has none: it announces what it starts, and nothing is called back.
"""

from __future__ import annotations

import mmap
import os
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import billiard
from billiard import get_start_method

from relevo.worker.pool import child as childs
from relevo.worker.pool import pipe
from relevo.worker.pool.child import Limits
from relevo.worker.pool.work import Work

# The shared memory has room for so many children; one beyond them announces what it starts instead.
MOST_CHILDREN = 1023


class ChildProcess:
    """A child. `queue`: the jobs that it was sent and has not answered, in order."""

    def __init__(self, process: Any, end: pipe.MainEnd, slot: int, shared: Any) -> None:
        self.process, self.pipe, self.slot, self.shared = process, end, slot, shared
        self.queue: deque[Work] = deque()
        self.is_ready = self.is_retiring = self.was_terminated = False
        self.started = time.monotonic()
        self.kill_at: float | None = None

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    def taken(self) -> int:
        """The number of the job that it has taken last, as far as can be said."""
        if self.shared is not None:
            return int(self.shared[childs.TAKEN])
        return max((work.number for work in self.queue if work.is_accepted), default=0)

    def since(self) -> float:
        """Since when it has run that job."""
        if self.shared is not None:
            return float(self.shared[childs.SINCE])
        return max((work.since for work in self.queue if work.is_accepted), default=0.0)

    def running(self) -> Work | None:
        """The job that it runs now."""
        taken = self.taken()
        return next((work for work in self.queue if work.number == taken), None)

    def hard_end(self, work: Work) -> float:
        if self.shared is not None:
            return float(self.shared[childs.HARD_END])
        return work.since + work.hard if work.hard and work.is_accepted else 0.0

    def soft_end(self, work: Work) -> float:
        if self.shared is not None:
            return float(self.shared[childs.SOFT_END])
        return work.since + work.soft if work.soft and work.is_accepted else 0.0

    def recall(self) -> list[Work]:
        """Take back what it has not taken from its pipe. It answers later what it refuses."""
        if self.shared is None or not self.queue:
            return []
        self.shared[childs.RECALLED] = self.queue[-1].number
        taken = self.taken()
        free = [work for work in self.queue if work.number > taken]
        self.queue = deque(work for work in self.queue if work.number <= taken)
        return free

    def kill(self, signum: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signum)


class Slots:
    """The memory shared with the children: a few places for each of so many."""

    def __init__(self) -> None:
        self.forked = get_start_method() == "fork"
        self._memory = memoryview(mmap.mmap(-1, 8 * childs.PLACES * MOST_CHILDREN)).cast("d")
        self._free = list(range(MOST_CHILDREN))[::-1] if self.forked else []

    def take(self) -> tuple[int, Any]:
        """A slot and its places; -1 and None where there is none."""
        if not self._free:
            return -1, None
        slot = self._free.pop()
        places = self._memory[slot * childs.PLACES : (slot + 1) * childs.PLACES]
        for place in range(childs.PLACES):
            places[place] = 0
        return slot, places

    def free(self, slot: int) -> None:
        if slot >= 0:
            self._free.append(slot)


def start(limits: Limits, slot: int, shared: Any, others: Iterable[int]) -> ChildProcess:
    """Start a child. `others`: what a forked one inherits, and would keep open after their ends."""
    ours, theirs = pipe.make()
    process = billiard.Process(target=_run, args=(theirs, limits, shared, [ours.fileno(), *others]))
    process.daemon = True
    process.name = process.name.replace("Process", "PoolWorker")
    process.start()
    theirs.close()
    return ChildProcess(process, pipe.MainEnd(ours), slot, shared)


def _run(end: Any, limits: Limits, shared: Any, others: Iterable[int]) -> None:
    """The body of a child process."""
    for fileno in others:
        with suppress(OSError):
            os.close(fileno)
    childs.main(end, limits, shared)
