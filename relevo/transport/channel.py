"""A kombu channel on a driver: what Celery declares, publishes and consumes, told in the driver's
verbs.

publish  -> a job (durable queues), or a broadcast (queues that go with their owner: control, replies, events)
consume  <- mail of the broadcast queues first, then jobs: as many as there is room for, in the order of `-Q`
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from amqp.protocol import queue_declare_ok_t
from kombu.transport import virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.utils.uuid import uuid

from relevo.drivers import message_codec
from relevo.drivers.contract import Binding, Broadcast, Driver, NewJob, ReservedJob
from relevo.transport import put_results
from relevo.transport.dead_letter import put_aside
from relevo.transport.fetcher import Intake
from relevo.transport.publish_batch import Bulk
from relevo.transport.qos import QoS, places_taken

logger = logging.getLogger(__name__)

# A mailbox nobody reads goes after this, in seconds, where its owner says nothing (Celery's control
# queues: 10).
MAILBOX_TTL = 60.0
# The exchange of Celery's events. When nobody hears one, others of its key are dropped unasked for
# so long (seconds).
EVENTS, UNHEARD = "celeryev", 1.0
# A job whose worker dies with it again and again is put aside after so many times.
MOST_RESCUES = 3


class Channel(virtual.Channel):
    """One kombu channel. Used by one thread, except for acks and rejects, which may come from any."""

    QoS = QoS  # type: ignore[assignment]  # what kombu uses of it, ours has
    supports_fanout = True

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self.driver, self.ledger, self.waker = (
            connection.driver,
            connection.ledger,
            connection.waker,
        )
        self.intake = Intake(self.driver, self.ledger)
        self._no_ack: set[str] = set()
        self._unheard: dict[str, float] = {}

    # --- queues -----------------------------------------------------------------------------------
    def prepare_queue_arguments(self, arguments: dict[str, Any] | None, **options: Any) -> Any:
        return to_rabbitmq_queue_arguments(arguments, **options)

    def queue_declare(self, queue: str | None = None, passive: bool = False, **options: Any) -> Any:
        """Queues need no declaring; one that goes with its owner is noted, to become a mailbox when
        it is bound.
        """
        queue = queue or f"amq.gen-{uuid()}"
        expires = (options.get("arguments") or {}).get("x-expires")
        if expires or options.get("exclusive") or options.get("auto_delete"):
            self.connection.passing[queue] = expires / 1000 if expires else MAILBOX_TTL
        return queue_declare_ok_t(queue, self._size(queue) if passive else 0, 0)

    def queue_bind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: Any = None,
        **options: Any,
    ) -> None:
        if queue in self.connection.passing and exchange:
            ttl = self.connection.passing[queue]
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
        """Bindings of durable queues are declared by every process from the same settings, so they
        are not stored.
        """

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **options: Any
    ) -> None:
        if queue in self.connection.mailboxes:
            self.connection.mailboxes.discard(queue)
            self.driver.unsubscribe(queue)
        else:
            super().queue_delete(queue, if_unused, if_empty, **options)

    def _delete(self, queue: str, *_args: Any, **_options: Any) -> None:
        clear(self.driver, queue)

    def _size(self, queue: str) -> int:
        return self.driver.sizes(queue).pending

    def _purge(self, queue: str) -> int:
        return clear(self.driver, queue)

    # there is nothing to declare
    def _has_queue(self, queue: str, **_options: Any) -> bool:  # noqa: ARG002
        return True

    # --- publishing -------------------------------------------------------------------------------
    def encode_body(self, body: Any, encoding: str | None = None) -> tuple[Any, str | None]:
        """A text stays a text; only bytes (a compressed body) are wrapped."""
        return (
            (body, "utf-8")
            if isinstance(body, str)
            else super().encode_body(body, encoding or "base64")
        )

    def basic_publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, **_options: Any
    ) -> None:
        """Put a job on each queue that `exchange` routes to; tell the mailboxes. A refusal is
        raised.
        """
        if exchange == EVENTS and self.is_unheard(routing_key):
            return
        jobs, broadcasts = self.routed(message, exchange, routing_key)
        if jobs:
            put_results.tell(jobs, self.driver.put(jobs))
        if broadcasts and not self.driver.broadcast(broadcasts) and exchange == EVENTS:
            self._unheard[routing_key] = time.monotonic() + UNHEARD

    def is_unheard(self, routing_key: str) -> bool:
        """Whether an event that is published now is dropped, because nobody heard the last one of
        this key.
        """
        return time.monotonic() < self._unheard.get(routing_key, 0.0)

    def routed(
        self, message: dict[str, Any], exchange: str, routing_key: str
    ) -> tuple[list[NewJob], list[Broadcast]]:
        """What publishing `message` comes to: jobs for the queues that `exchange` routes to, and
        mail.
        """
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

    def create_publish_batch(self, max_size: int) -> Bulk:
        """The way into kombu's `Producer.batch()`."""
        return Bulk(self, max_size)

    def _put(self, queue: str, message: dict[str, Any], **_options: Any) -> None:
        self.driver.put([message_codec.to_job(queue, message)])

    # --- consuming --------------------------------------------------------------------------------
    def basic_consume(
        self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **options: Any
    ) -> None:
        super().basic_consume(queue, no_ack, callback, consumer_tag, **options)
        # kombu's own table; ours get a finished message
        self.connection._callbacks[queue] = callback  # noqa: SLF001
        if no_ack:
            self._no_ack.add(queue)
        self.ledger.write_through = False

    def basic_cancel(self, consumer_tag: str) -> None:
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        self.intake.put_back(queue)  # nobody is there any more to hand them to
        if not self.job_queues():
            self.ledger.write_through = (
                True  # nobody reserves any more, so nobody else would write these
            )
            self.ledger.write_back()
            self.ledger.flush()

    def basic_get(self, queue: str, no_ack: bool = False, **_options: Any) -> Any:
        jobs = self.intake.reserve([queue], 1)
        message = self._message(jobs[0]) if jobs else None
        if message is None:
            return None
        if no_ack:
            self.ledger.done(message.delivery_tag)
            self.ledger.flush()
        else:
            self.qos.append(message, message.delivery_tag)
        return message

    def deliver_mail(self) -> bool:
        """Hand over what has come to this channel's mailboxes. Returns whether there was any."""
        delivered = False
        for queue in [name for name in self._active_queues if name in self.connection.mailboxes]:
            for mail in self.driver.receive(queue):
                self._hand_over(
                    queue, self.Message(message_codec.loads(mail.payload), channel=self)
                )
                delivered = True
        return delivered

    def deliver_jobs(self, heard: bool) -> bool:
        """Hand over as many jobs as there is room for; write acks that wait. Returns whether to
        come again.
        """
        delivered = False
        if queues := self.job_queues():
            for job in self.intake.jobs(queues, self.qos, heard):
                self._start(job)
                delivered = True
        return delivered or (self.intake.parks and self.has_room())

    def _start(self, job: ReservedJob) -> None:
        message = self._message(job)
        if message is not None:
            if job.queue in self._no_ack:
                self.ledger.done(message.delivery_tag)
            else:
                self.intake.starts(job, message.headers)
                self.qos.append(message, message.delivery_tag)
            self._hand_over_job(job, message)

    def _message(self, job: ReservedJob) -> Any:
        """The message of a job, or None when there is nothing to be done with it and it was put
        aside.
        """
        if job.rescues >= MOST_RESCUES:
            return put_aside(self.ledger, job, f"its worker died with it {job.rescues} times")
        try:
            message: Any = self.Message(self.intake.message_of(job), channel=self)
            message_codec.decode(message)
        # whatever a payload does to its reader, the worker goes on
        except Exception as error:  # noqa: BLE001
            return put_aside(self.ledger, job, f"it can't be read: {error}")
        message.job = job
        return message

    def put_back(self, message: Any, headers: dict[str, Any], delay: float, attempts: int) -> None:
        """Put the job of a message back with other headers, to run again after `delay` seconds, in
        one step.
        """
        self.qos.put_back(
            message.delivery_tag,
            delay,
            message_codec.repack(message.job.payload, headers, delay),
            attempts,
        )

    def finish(self, message: Any, free: bool) -> None:
        """A job has ended and is still to be recorded: its place is `free`, unless the recorder
        can't keep up.
        """
        if free:
            self.qos.forget(message.delivery_tag)
            self.waker.ring()

    def finished(self, messages_: Sequence[Any]) -> None:
        """Jobs that have ended are recorded: ack them. Any thread may say so."""
        tags = [message.delivery_tag for message in messages_]
        for tag in tags:
            self.qos.forget(tag)
        self.ledger.all_done(tags)
        self.waker.ring()

    def put_aside(self, message: Any) -> None:
        """A message was rejected, not to be run again."""
        put_aside(self.ledger, message.job, "it was rejected")

    def _hand_over(self, queue: str, message: Any) -> None:
        if callback := self.connection._callbacks.get(queue):  # noqa: SLF001  kombu's own table
            callback(message)

    def _hand_over_job(self, job: ReservedJob, message: Any) -> None:
        """Celery rejects what it knows is bad; what it trips over is bad too, unless a request was
        made of it.
        """
        accepted = places_taken()
        try:
            self._hand_over(job.queue, message)
        except Exception as error:
            if job.queue in self._no_ack or places_taken() > accepted:
                raise
            self.qos.forget(message.delivery_tag)
            put_aside(self.ledger, job, f"it can't be received: {error!r}")

    def has_room(self) -> bool:
        """Whether this channel could take a job now."""
        return bool(self.job_queues()) and self.qos.room() > 0

    def job_queues(self) -> list[str]:
        """The queues it takes jobs from, in strict order."""
        return [queue for queue in self._active_queues if queue not in self.connection.mailboxes]

    def close(self) -> None:
        if not self.closed:
            self.intake.put_back()
        super().close()


# ---- relevo.drivers.clearing: How a queue is cleared that Celery or kombu has cleared: `celery purge`, `app.control.purge`, `queue_delete`.
#: Who clears queues in this process, if anybody: answers None where it isn't its broker. Set by the app: this package
#: knows nothing of batches, which are to hear of it.
clearer: Callable[[Driver, str], int | None] | None = None


def clear(driver: Driver, queue: str) -> int:
    """Delete the pending and delayed jobs of a queue. Returns how many."""
    cleared = None if clearer is None else clearer(driver, queue)
    return driver.clear(queue) if cleared is None else cleared
