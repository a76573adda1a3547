"""The jobs that a fake has taken and not run yet, in the order a worker would take them.

Queues in strict order, then priority (0 first), then the time at which a job may run, then the
order of dispatch: what the driver contract promises.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

from relevo import clock
from relevo.testing.dispatched import Dispatched


class Backlog:
    """Safe to use from several threads: each job is handed out once."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._jobs: list[tuple[int, Dispatched]] = []
        self._lock = threading.Lock()

    def add(self, job: Dispatched) -> None:
        with self._lock:
            self._jobs.append((next(self._numbers), job))

    def replace(self, job: Dispatched) -> None:
        """The job of this id is another one from now on."""
        with self._lock:
            self._jobs = [
                (number, job if known.id == job.id else known) for number, known in self._jobs
            ]

    def forget(self, job_id: str) -> None:
        with self._lock:
            self._jobs = [numbered for numbered in self._jobs if numbered[1].id != job_id]

    def waiting(self) -> list[Dispatched]:
        """Every job, delayed ones too, in the order of dispatch."""
        with self._lock:
            return [job for _, job in self._jobs]

    def take(
        self, queues: Sequence[str] | None, declared: Sequence[str], *, delayed: bool
    ) -> Dispatched | None:
        """The next job of these queues (None: all of them), also one whose time has not come if
        `delayed`.
        """
        now = clock.now()
        with self._lock:
            rank = ranks(queues, declared, [job.queue for _, job in self._jobs])
            ready = [
                (_turn(number, job, rank, now), number, job)
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
    """Which queues are looked at, and in which order: as given, or as declared and then as first
    used.
    """
    names = queues if queues is not None else dict.fromkeys([*declared, *present])
    return {name: place for place, name in enumerate(names)}


def _turn(number: int, job: Dispatched, rank: dict[str, int], now: float) -> tuple[Any, ...]:
    """What is due goes first, in strict order; what is not, by its time."""
    if job.available_at <= now:
        return (0, rank[job.queue], job.priority, job.available_at, number)
    return (1, job.available_at, rank[job.queue], job.priority, number)
