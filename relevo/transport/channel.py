"""A kombu channel on a driver: Celery's declaring, publishing and consuming in the driver's verbs.

publish -> a job on a durable queue
        -> a broadcast to mailboxes: queues that go with their owner (control, replies, events)
consume <- the mail of the mailboxes first, then jobs: as many as there is capacity for, with
           the queues in the order of `-Q`
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from amqp.protocol import queue_declare_ok_t
from kombu.transport import virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.utils.uuid import uuid

from relevo.drivers import message_codec
from relevo.drivers.contract import Binding, Broadcast, Driver, NewJob, ReservedJob
from relevo.transport import dead_letter, put_results
from relevo.transport.context import WorkerContext
from relevo.transport.fetcher import Fetcher
from relevo.transport.lease_keeper import LeaseKeeper
from relevo.transport.publish_batch import PublishBatch
from relevo.transport.qos import QoS, active_jobs

logger = logging.getLogger(__name__)

# Seconds after which a mailbox that is not read is deleted, unless its owner sets them (Celery's
# control queues: 10).
MAILBOX_TTL = 60.0
# The exchange of Celery's events. When nobody receives an event, further ones of its routing key
# are dropped for this long, in seconds.
EVENTS, UNHEARD = "celeryev", 1.0
# A job whose worker has died this many times becomes a dead letter.
MOST_RESCUES = 3


class Channel(virtual.Channel):
    """One kombu channel. Used by one thread, but acks and rejects may come from any thread."""

    QoS = QoS  # type: ignore[assignment]  # it has what kombu uses
    supports_fanout = True

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.context: WorkerContext = connection.context
        self.driver: Driver = connection.driver
        self.keeper: LeaseKeeper = connection.keeper
        self.waker = connection.waker
        self.fetcher = Fetcher(self.keeper, self.context)
        self._no_ack: set[str] = set()
        self._unheard: dict[str, float] = {}

    # --- queues -----------------------------------------------------------------------------------
    def prepare_queue_arguments(self, arguments: dict[str, Any] | None, **options: Any) -> Any:
        return to_rabbitmq_queue_arguments(arguments, **options)

    def queue_declare(self, queue: str | None = None, passive: bool = False, **options: Any) -> Any:
        """Queues need no declaring. A queue that goes with its owner is noted: it becomes a mailbox
        when it is bound.
        """
        queue = queue or f"amq.gen-{uuid()}"
        expires = (options.get("arguments") or {}).get("x-expires")
        if expires or options.get("exclusive") or options.get("auto_delete"):
            self.connection.temporary[queue] = expires / 1000 if expires else MAILBOX_TTL
        return queue_declare_ok_t(queue, self._size(queue) if passive else 0, 0)

    def queue_bind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: Any = None,
        **options: Any,
    ) -> None:
        if queue in self.connection.temporary and exchange:
            ttl = self.connection.temporary[queue]
            self.driver.subscribe(
                queue, [Binding(exchange, self._pattern(exchange, routing_key))], ttl
            )
            self.connection.mailboxes.add(queue)
        else:
            super().queue_bind(queue, exchange, routing_key, arguments, **options)

    def _pattern(self, exchange: str, routing_key: str) -> str:
        kind = self.typeof(exchange)
        if kind.type == "fanout":
            return ""
        return (
            kind.key_to_pattern(routing_key)
            if kind.type == "topic"
            else f"{re.escape(routing_key)}$"
        )

    def _queue_bind(self, *_args: Any) -> None:
        """Nothing: every process declares the bindings of durable queues from the same settings."""

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **options: Any
    ) -> None:
        if queue in self.connection.mailboxes:
            self.connection.mailboxes.discard(queue)
            self.driver.unsubscribe(queue)
        else:
            super().queue_delete(queue, if_unused, if_empty, **options)

    def _delete(self, queue: str, *_args: Any, **_options: Any) -> None:
        self._purge(queue)

    def _size(self, queue: str) -> int:
        return self.driver.sizes(queue).pending

    def _purge(self, queue: str) -> int:
        """Delete the pending and delayed jobs of a queue. Returns how many.

        `celery purge`, `app.control.purge` and kombu's `queue_delete` come here. The app clears its
        own queues, because it also counts the jobs of batches (`relevo/operations/clear.py`).
        """
        clear = self.context.clear_queue
        cleared = None if clear is None else clear(self.driver, queue)
        return self.driver.clear(queue) if cleared is None else cleared

    # there is nothing to declare
    def _has_queue(self, queue: str, **_options: Any) -> bool:  # noqa: ARG002
        return True

    # --- publishing -------------------------------------------------------------------------------
    def encode_body(self, body: Any, encoding: str | None = None) -> tuple[Any, str | None]:
        """Wrap only bytes (a compressed body). A text stays a text."""
        return (
            (body, "utf-8")
            if isinstance(body, str)
            else super().encode_body(body, encoding or "base64")
        )

    def basic_publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, **_options: Any
    ) -> None:
        """Put a job on each queue that `exchange` routes to, and send to the mailboxes.

        Raises DriverError if the broker refuses.
        """
        if exchange == EVENTS and self.is_unheard(routing_key):
            return
        jobs, broadcasts = self.routed(message, exchange, routing_key)
        if jobs:
            put_results.resolve(jobs, self.driver.put(jobs))
        if broadcasts and not self.driver.broadcast(broadcasts) and exchange == EVENTS:
            self._unheard[routing_key] = time.monotonic() + UNHEARD

    def is_unheard(self, routing_key: str) -> bool:
        """Whether an event published now is dropped: nobody received the last one of this key."""
        return time.monotonic() < self._unheard.get(routing_key, 0.0)

    def routed(
        self, message: dict[str, Any], exchange: str, routing_key: str
    ) -> tuple[list[NewJob], list[Broadcast]]:
        """Return what `message` becomes: jobs for the queues of `exchange`, and mail."""
        self._inplace_augment_message(message, exchange, routing_key)
        jobs = [
            message_codec.to_job(queue, message) for queue in self._lookup(exchange, routing_key)
        ]
        mail = (
            [Broadcast(exchange, routing_key or "", message_codec.dumps(message))]
            if exchange
            else []
        )
        return jobs, mail

    def create_publish_batch(self, max_size: int) -> PublishBatch:
        """Return the batch that kombu's `Producer.batch()` collects in."""
        return PublishBatch(self, max_size)

    def _put(self, queue: str, message: dict[str, Any], **_options: Any) -> None:
        self.driver.put([message_codec.to_job(queue, message)])

    # --- consuming --------------------------------------------------------------------------------
    def basic_consume(
        self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **options: Any
    ) -> None:
        super().basic_consume(queue, no_ack, callback, consumer_tag, **options)
        # kombu's own table: its callback would make a message of a payload, and ours is one
        self.connection._callbacks[queue] = callback  # noqa: SLF001
        if no_ack:
            self._no_ack.add(queue)
        self.keeper.write_through = False

    def basic_cancel(self, consumer_tag: str) -> None:
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        self.fetcher.release_reserved(queue)  # they have no consumer any more
        if not self.job_queues():
            self.keeper.write_through = True  # no reservation follows that would write the acks
            self.keeper.write_releases()
            self.keeper.flush()

    def basic_get(self, queue: str, no_ack: bool = False, **_options: Any) -> Any:
        jobs = self.fetcher.reserve([queue], 1)
        message = self.make_message(jobs[0]) if jobs else None
        if message is None:
            return None
        if no_ack:
            self.keeper.complete(message.delivery_tag)
            self.keeper.flush()
        else:
            self.qos.append(message, message.delivery_tag)
        return message

    def deliver_mail(self) -> bool:
        """Hand over the mail of this channel's mailboxes. Returns whether there was any."""
        delivered = False
        for queue in [name for name in self._active_queues if name in self.connection.mailboxes]:
            for mail in self.driver.receive(queue):
                self._hand_over(
                    queue, self.Message(message_codec.loads(mail.payload), channel=self)
                )
                delivered = True
        return delivered

    def deliver_jobs(self, heard: bool) -> bool:
        """Hand over as many jobs as there is capacity for, and write the acks that wait.

        Returns whether there may be more at once.
        """
        delivered = False
        if queues := self.job_queues():
            shipper = self.context.shipper
            if shipper is None or self._no_ack:
                ship = None
            else:
                for each in shipper.take_long_way():
                    each.channel.start_long(each.job)
                ship = shipper.ship if shipper.is_open(self) else None
            try:
                for job in self.fetcher.next_jobs(queues, self.qos, heard):
                    if ship is None or not ship(self, job):
                        self._start(job)
                    delivered = True
            finally:
                if shipper is not None:
                    shipper.flush()
        return delivered or (self.fetcher.only_parked and self.has_capacity())

    def start_long(self, job: ReservedJob) -> None:
        """Hand over a job that has come back from the short way."""
        self.qos.forget(job.lease.token)
        self._start(job)

    def _start(self, job: ReservedJob) -> None:
        message = self.make_message(job)
        if message is not None:
            if job.queue in self._no_ack:
                self.keeper.complete(message.delivery_tag)
            else:
                self.fetcher.release_key_at_start(job, message.headers)
                self.qos.append(message, message.delivery_tag)
            self._hand_over_job(job, message)

    def make_message(self, job: ReservedJob) -> Any:
        """Return the message of a job, or None if it was made a dead letter."""
        if job.rescues >= MOST_RESCUES:
            return self.dead_letter(job, f"its worker died with it {job.rescues} times")
        try:
            message: Any = self.Message(self.fetcher.message_for(job), channel=self)
            message_codec.decode(message)
        # whatever a payload does to its reader, the worker goes on
        except Exception as error:  # noqa: BLE001
            return self.dead_letter(job, f"it can't be read: {error}")
        message.job = job
        return message

    def dead_letter(self, job: ReservedJob, reason: str) -> None:
        """Store a job that can't be run, and end its lease."""
        dead_letter.dead_letter(self.keeper, job, reason, self.context.dead_letter_handler)

    def release(self, message: Any, headers: dict[str, Any], delay: float, attempts: int) -> None:
        """Release a job with new headers, to run after `delay` seconds, in one step.

        What can't go back so becomes a dead letter, with the errors of its attempts.
        """
        job: ReservedJob = message.job
        try:
            payload = message_codec.repack(job.payload, headers, delay)
        except Exception as error:  # noqa: BLE001  the worker goes on, whatever the headers hold
            self.free_place(message)
            self.dead_letter(job, f"it can't be released: {error!r}")
            return
        self.qos.release_changed(
            message.delivery_tag,
            delay,
            payload,
            attempts,
            lambda reason: self.dead_letter(replace(job, payload=payload), reason),
        )

    def free_place(self, message: Any) -> None:
        """Free the place of a job that has ended and is still to be recorded."""
        self.qos.forget(message.delivery_tag)
        self.waker.ring()

    def ack_recorded(self, messages: Sequence[Any]) -> None:
        """Ack jobs whose ends are recorded. Any thread may call this."""
        tags = [message.delivery_tag for message in messages]
        for tag in tags:
            self.qos.forget(tag)
        self.keeper.complete_many(tags)
        self.waker.ring()

    def ack_tokens(self, tokens: Sequence[str]) -> None:
        """Ack jobs by the tokens of their leases. Any thread may call this."""
        for token in tokens:
            self.qos.forget(token)
        self.keeper.complete_many(tokens)
        self.waker.ring()

    def _hand_over(self, queue: str, message: Any) -> None:
        if callback := self.connection._callbacks.get(queue):  # noqa: SLF001  kombu's own table
            callback(message)

    def _hand_over_job(self, job: ReservedJob, message: Any) -> None:
        """Hand over a job. If that raises, it is a dead letter, unless Celery has made a request.

        (Celery itself rejects what it knows to be bad.)
        """
        accepted = active_jobs()
        try:
            self._hand_over(job.queue, message)
        except Exception as error:
            if job.queue in self._no_ack or active_jobs() > accepted:
                raise
            self.qos.forget(message.delivery_tag)
            self.dead_letter(job, f"it can't be received: {error!r}")

    def has_capacity(self) -> bool:
        """Whether this channel can take a job now."""
        return bool(self.job_queues()) and self.qos.capacity() > 0

    def job_queues(self) -> list[str]:
        """Return the queues that it takes jobs from, in strict order."""
        return [queue for queue in self._active_queues if queue not in self.connection.mailboxes]

    def close(self) -> None:
        if not self.closed:
            self.fetcher.release_reserved()
        super().close()
