"""Celery's consumer, with two corrections that operators need.

A pool of one place (solo) gets one job, whatever its concurrency says. `celery worker -P solo` on a
machine of 16 cores kept 15 jobs behind the one that ran, away from other workers.

Jobs that wait for Celery's own rate limit (`rate_limit`) lie in the worker's memory, in the bucket
of their task, each in a place of the pool. When the limit changes, Celery makes new buckets and
leaves the jobs in the old ones to the old limit: at one an hour, a worker of two places did nothing
for two hours after the limit was lifted. Celery doesn't look there for cancelled jobs either: they
ran.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from celery.concurrency import solo
from celery.worker import consumer

from relevo.transport import context
from relevo.worker.shipping import Shipper


class Consumer(consumer.Consumer):
    """Celery's consumer, which keeps its rate-limit buckets in order."""

    task_buckets: dict[str, Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        context.current().is_serial = isinstance(options.get("pool"), solo.TaskPool)
        super().__init__(*args, **options)

    def start(self) -> None:
        """Begin to consume; the pool has been started."""
        processes = getattr(self.pool, "processes", None)
        context.current().shipper = Shipper(self, processes) if processes is not None else None
        super().start()

    def reset_rate_limits(self) -> None:
        """The limits have changed: move waiting jobs to the new buckets, or start them."""
        before = dict(self.task_buckets)
        super().reset_rate_limits()
        for task, bucket in before.items():
            for request, tokens in self._drain(bucket):
                if self.task_buckets[task]:
                    self._limit_task(request, self.task_buckets[task], tokens)
                else:
                    self._limit_move_to_pool(request)

    def remove_from_buckets(self, ids: Collection[str]) -> list[Any]:
        """Remove and return the waiting requests of these jobs, so that they don't start."""
        found = []
        for bucket in list(self.task_buckets.values()):
            waiting = list(bucket.contents) if bucket else []
            for entry in waiting:
                if entry[0].id in ids:
                    with suppress(ValueError):  # it has just started
                        bucket.contents.remove(entry)
                        found.append(entry[0])
        return found

    @staticmethod
    def _drain(bucket: Any) -> list[tuple[Any, int]]:
        """Empty a bucket, so that its timer (a thread) finds nothing. Returns its requests."""
        taken = []
        with suppress(IndexError):
            while bucket:
                taken.append(bucket.pop())
        return taken
