"""How many messages a channel may have handed over, and what becomes of each.

kombu's own QoS keeps the messages to put them back itself; here the ledger holds their leases, so
only the tags are counted.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, Protocol

from relevo.transport import work_limits


class Pool(Protocol):
    """A worker's pool that can have jobs waiting before its places, and give back those that have
    not started.
    """

    def most_waiting(self) -> int: ...

    def recall(self) -> int: ...


#: The pool of this process, where it is one that can.
pool: Pool | None = None
#: Whether this process's pool runs a job where it is handed over (solo).
serial = False


class QoS:
    """The credit of one channel. Acks and rejects come from any thread and wake the consumer, which
    has room again.
    """

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        self.channel = channel
        self.prefetch_count = prefetch_count
        self.waiting = 0
        self._last_end = time.monotonic()
        self._out: dict[str, Any] = {}
        self._lock = threading.Lock()

    def room(self) -> int:
        """How many more messages may be handed over."""
        if not self.prefetch_count:
            return work_limits.left()
        places = 1 if serial else self.prefetch_count + self.waiting
        return min(places - max(len(self._out), places_taken()), work_limits.left())

    @property
    def is_serial(self) -> bool:
        """Whether a job runs where it is handed over: what is reserved behind it waits for its end."""
        return serial

    def allow_waiting(self, jobs: int) -> None:
        """While jobs are short: let so many more be handed over than there are places, if the pool
        can bear it.
        """
        self.waiting = min(jobs, pool.most_waiting()) if pool and self.prefetch_count else 0

    def recall_if_stuck(self, seconds: float) -> None:
        """No job has ended for `seconds`: those that wait behind the running ones are better off
        elsewhere.
        """
        now = time.monotonic()
        # Whatever may wait by now: those in the pipe were let in when jobs were shorter.
        if pool and 0 < self.prefetch_count < len(self._out) and now - self._last_end > seconds:
            self.waiting, self._last_end = 0, now
            pool.recall()

    def can_consume(self) -> bool:
        return self.room() > 0

    def can_consume_max_estimate(self) -> int:
        return max(0, self.room())

    def append(self, message: Any, delivery_tag: str) -> None:
        with self._lock:
            self._out[delivery_tag] = message

    def get(self, delivery_tag: str) -> Any:
        return self._out[delivery_tag]

    def ack(self, delivery_tag: str) -> None:
        self.forget(delivery_tag)
        self.channel.ledger.done(delivery_tag)
        self.channel.waker.ring()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Put the job back, or (not `requeue`) put it aside where an operator finds it."""
        message = self.forget(delivery_tag)
        if requeue:
            self.channel.ledger.release([delivery_tag])
        elif message is not None:
            self.channel.put_aside(message)
        self.channel.waker.ring()

    def put_back(self, delivery_tag: str, delay: float, payload: str, attempts: int) -> None:
        """Put the job back changed, to run again after `delay` seconds."""
        self.forget(delivery_tag)
        self.channel.ledger.put_back(delivery_tag, delay, payload, attempts)
        self.channel.waker.ring()

    def forget(self, delivery_tag: str) -> Any:
        """It is out no longer. Returns the message, or None if it was forgotten already."""
        self._last_end = time.monotonic()
        with self._lock:
            return self._out.pop(delivery_tag, None)

    def restore_unacked(self) -> None:
        """Put everything back that was handed over."""
        with self._lock:
            tags, self._out = list(self._out), {}
        self.channel.ledger.release(tags)

    def restore_unacked_once(self, stderr: Any = None) -> None:  # noqa: ARG002  kombu's signature
        """A channel closes. A worker only reconnects, and its jobs still run: the ledger keeps them
        until it ends.
        """
        if not self.channel.ledger.outlives_channels:
            self.restore_unacked()

    def restore_visible(self, *_args: Any, **_options: Any) -> None:
        """The driver rescues by itself."""


def places_taken() -> int:
    """How many jobs Celery's worker in this process has accepted and not finished, acked or not; 0
    outside a worker.
    """
    state = sys.modules.get("celery.worker.state")
    return len(state.reserved_requests) if state else 0
