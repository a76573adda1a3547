"""The jobs that a fake has taken and not run yet, in the order in which a worker would run them.

The order is that of the driver contract: queues in strict order, then priority (0 first), then the
time at which a job may run, then the order of dispatch.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

from relevo import clock
from relevo.testing.dispatched import Dispatched


class Backlog:
    """Jobs that wait. Thread-safe: each job is taken once."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._jobs: list[tuple[int, Dispatched]] = []
        self._lock = threading.Lock()

    def add(self, job: Dispatched) -> None:
        with self._lock:
            self._jobs.append((next(self._numbers), job))

    def replace(self, job: Dispatched) -> None:
        """Put this job into the place of the one with its id."""
        with self._lock:
            self._jobs = [
                (number, job if known.id == job.id else known) for number, known in self._jobs
            ]

    def forget(self, job_id: str) -> None:
        with self._lock:
            self._jobs = [numbered for numbered in self._jobs if numbered[1].id != job_id]

    def waiting(self) -> list[Dispatched]:
        """Every job, also delayed ones, in the order of dispatch."""
        with self._lock:
            return [job for _, job in self._jobs]

    def take(
        self, queues: Sequence[str] | None, declared: Sequence[str], *, delayed: bool
    ) -> Dispatched | None:
        """Remove and return the next job of these queues (None: all queues).

        With `delayed`, also a job that is not due yet.
        """
        now = clock.now()
        with self._lock:
            rank = ranks(queues, declared, [job.queue for _, job in self._jobs])
            ready = [
                (_sort_key(number, job, rank, now), number, job)
                for number, job in self._jobs
                if job.queue in rank and (delayed or job.available_at <= now)
            ]
            if not ready:
                return None
            _, number, job = min(ready, key=lambda candidate: candidate[0])
            self._jobs.remove((number, job))
            return job


def ranks(
    queues: Sequence[str] | None, declared: Sequence[str], present: Sequence[str]
) -> dict[str, int]:
    """The rank of each queue: as given, or as declared and then in the order of first use."""
    names = queues if queues is not None else dict.fromkeys([*declared, *present])
    return {name: place for place, name in enumerate(names)}


def _sort_key(number: int, job: Dispatched, rank: dict[str, int], now: float) -> tuple[Any, ...]:
    """The sort key: due jobs first, in strict order; then the others, by their time."""
    if job.available_at <= now:
        return (0, rank[job.queue], job.priority, job.available_at, number)
    return (1, job.available_at, rank[job.queue], job.priority, number)
