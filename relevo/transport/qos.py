"""How many messages a channel may have handed over, and what becomes of each.

kombu's own QoS keeps the messages, to put them back itself. Here the lease keeper holds their
leases, so only the messages' tags are counted.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any


class QoS:
    """The credit of one channel.

    Acks and rejects come from any thread. They wake the consumer, which has capacity again.
    """

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        self.channel, self.context = channel, channel.context
        self.prefetch_count = prefetch_count
        #: How many jobs beyond the pool's places may wait in its pipe.
        self.ahead = 0
        self._last_end = time.monotonic()
        self._out: dict[str, Any] = {}
        self._lock = threading.Lock()

    def capacity(self) -> int:
        """Return how many more messages may be handed over."""
        left: int = self.context.work_limits.left()
        if not self.prefetch_count:
            return left
        places = 1 if self.is_serial else self.prefetch_count + self.ahead
        free = places - max(len(self._out), active_jobs())
        # While jobs wait in the pool's pipes they are handed over in groups, not one by one.
        return min(free, left) if free >= self.ahead // 2 else 0

    @property
    def is_serial(self) -> bool:
        """Whether a job runs where it is handed over, so that what is reserved behind it waits."""
        return bool(self.context.is_serial)

    def allow_ahead(self, jobs: int) -> None:
        """Let this many jobs wait in the pool's pipe, if it can hold them. Jobs are short now."""
        pool = self.context.pool
        self.ahead = min(jobs, pool.most_waiting()) if pool and self.prefetch_count else 0

    def recall_if_stuck(self, seconds: float) -> None:
        """Recall the jobs in the pipe if none has ended for `seconds`: others may be free."""
        now, pool = time.monotonic(), self.context.pool
        # However many may wait by now: those in the pipe were handed over when jobs were shorter.
        if pool and 0 < self.prefetch_count < len(self._out) and now - self._last_end > seconds:
            self.ahead, self._last_end = 0, now
            pool.recall_unstarted()

    def can_consume(self) -> bool:
        """Answer kombu whether a message may be handed over."""
        return self.capacity() > 0

    def can_consume_max_estimate(self) -> int:
        """Answer kombu how many messages may be handed over."""
        return max(0, self.capacity())

    def append(self, message: Any, delivery_tag: str) -> None:
        """Count a message that is handed over."""
        with self._lock:
            self._out[delivery_tag] = message

    def get(self, delivery_tag: str) -> Any:
        """Return a message that was handed over."""
        return self._out[delivery_tag]

    def ack(self, delivery_tag: str) -> None:
        """The job is done."""
        self.forget(delivery_tag)
        self.channel.keeper.complete(delivery_tag)
        self.channel.waker.ring()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Release the job (`requeue`), or make it a dead letter."""
        message = self.forget(delivery_tag)
        if requeue:
            self.channel.keeper.release([delivery_tag])
        elif message is not None:
            self.channel.dead_letter(message.job, "it was rejected")
        self.channel.waker.ring()

    def release_changed(
        self,
        delivery_tag: str,
        delay: float,
        payload: str,
        attempts: int,
        refused: Callable[[str], None],
    ) -> None:
        """Release the job with a new payload and count, to run after `delay` seconds.

        `refused` gets the reason if the broker doesn't take it.
        """
        self.forget(delivery_tag)
        self.channel.keeper.release_changed(delivery_tag, delay, payload, attempts, refused)
        self.channel.waker.ring()

    def forget(self, delivery_tag: str) -> Any:
        """Free the message's place. Returns the message, or None if its place was free already."""
        self._last_end = time.monotonic()
        with self._lock:
            return self._out.pop(delivery_tag, None)

    def restore_unacked(self) -> None:
        """Release every job that was handed over."""
        with self._lock:
            tags, self._out = list(self._out), {}
        self.channel.keeper.release(tags)

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002  kombu's signature
        """The channel closes: release its jobs, but not in a worker.

        A worker only reconnects. Its jobs still run, and the lease keeper holds them until it ends.
        """
        if not self.context.is_worker:
            self.restore_unacked()

    def restore_visible(self, *_args: Any, **_options: Any) -> None:
        """Nothing: the driver rescues by itself."""


def active_jobs() -> int:
    """Return how many jobs this process's worker has accepted and not finished, acked or not.

    0 outside a worker.
    """
    state = sys.modules.get("celery.worker.state")
    return len(state.reserved_requests) if state else 0
