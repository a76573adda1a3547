"""Celery's consumer, with two things in order that an operator would trip over.

A pool of one place (solo) has one, whatever its concurrency says: `celery worker -P solo` on a
machine of 16 cores kept 15 jobs behind the one that ran, away from other workers.

Jobs that wait for a rate limit of Celery's (`rate_limit`) lie in the worker's memory, each in a
place of its pool, in the bucket of their task. Celery makes new buckets when somebody sets another
limit, and leaves what lies in the old ones to the old limit: at one an hour a worker of two places
did nothing for two hours after the limit was lifted. And nobody found there what was cancelled: it
ran.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from celery.concurrency import solo
from celery.worker import consumer

from relevo.transport import qos


class Consumer(consumer.Consumer):
    """Celery's, with its buckets in order."""

    task_buckets: dict[str, Any]

    def __init__(self, *args: Any, **options: Any) -> None:
        qos.serial = isinstance(options.get("pool"), solo.TaskPool)
        super().__init__(*args, **options)

    def reset_rate_limits(self) -> None:
        """The limits have changed: what waited for the old ones waits for the new ones, or for
        none.
        """
        before = dict(self.task_buckets)
        super().reset_rate_limits()
        for task, bucket in before.items():
            for request, tokens in self._taken(bucket):
                if self.task_buckets[task]:
                    self._limit_task(request, self.task_buckets[task], tokens)
                else:
                    self._limit_move_to_pool(request)

    def let_go(self, ids: Collection[str]) -> list[Any]:
        """Take the requests of these jobs out of the buckets: they don't start."""
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
    def _taken(bucket: Any) -> list[tuple[Any, int]]:
        """What waits in a bucket, taken out of it: its timer finds nothing. (The timer is a thread
        of its own.)
        """
        taken = []
        with suppress(IndexError):
            while bucket:
                taken.append(bucket.pop())
        return taken
