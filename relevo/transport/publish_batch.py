"""Many messages in one step: kombu's `Producer.batch()` on our drivers.

    with app.producer_or_acquire() as producer, producer.batch():
        for user in users:
            welcome.apply_async((user.id,), producer=producer)

Jobs are collected, and all of them (or none) are put when the block ends or `max_size` is reached.
The caller gets an error as ever. Broadcasts follow the jobs, in order.
"""

from __future__ import annotations

from typing import Any

from relevo.drivers.contract import Broadcast, NewJob
from relevo.transport import put_results


class PublishBatch:
    """What kombu calls a publish batch, of one channel."""

    def __init__(self, channel: Any, max_size: int) -> None:
        self.channel, self.max_size = channel, max_size
        self._jobs: list[NewJob] = []
        self._broadcasts: list[Broadcast] = []

    def publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, **_options: Any
    ) -> None:
        """Collect the jobs and broadcasts that `message` becomes."""
        jobs, broadcasts = self.channel.routed(message, exchange, routing_key)
        self._jobs += jobs
        self._broadcasts += broadcasts
        put_results.collected(job.id for job in jobs)
        if len(self._jobs) >= self.max_size:
            self.flush()

    def flush(self) -> None:
        """Put what was collected. What can't be put is not kept: the caller gets the error."""
        jobs, self._jobs = self._jobs, []
        broadcasts, self._broadcasts = self._broadcasts, []
        if jobs:
            placed = self.channel.driver.put(jobs)
            put_results.resolve(jobs, placed)
            put_results.announce(jobs, placed)
        if broadcasts:
            self.channel.driver.broadcast(broadcasts)

    def discard(self) -> None:
        """Forget what was collected: the block ended in an error."""
        self._jobs, self._broadcasts = [], []

    def close(self) -> None:
        """The block is over."""
