"""Captures messages instead of sending them: Celery does all of its work but the last step.

    [job] = captured_jobs(app, signature)     a NewJob as a driver takes it: routed, checked,
                                              serialized

Transactions, batches and the schedule need messages to store. The capturing producer stands on a
broker in memory, so no broker has to be there.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.canvas import Signature, _chain
from celery.exceptions import AlwaysEagerIgnored
from kombu.connection import Connection
from kombu.messaging import Producer

from relevo.drivers import validation
from relevo.drivers.contract import NewJob
from relevo.transport.publish_batch import PublishBatch

URL = "relevo://collected"

_mine = threading.local()


class CaptureBatch(PublishBatch):
    """Keeps the jobs that are published on its channel."""

    def __init__(self, channel: Any, max_size: int) -> None:
        super().__init__(channel, max_size)
        #: The connections of jobs that name one: job id -> name.
        self.connections: dict[str, str] = {}

    def publish(
        self, message: dict[str, Any], exchange: str, routing_key: str, **options: Any
    ) -> None:
        known = len(self._jobs)
        super().publish(message, exchange, routing_key, **options)
        # Checked at the dispatch: a stored row that no broker takes would hold up others.
        validation.jobs(self._jobs[known:])
        if (name := getattr(_mine, "connection", None)) is not None:
            self.connections |= dict.fromkeys((job.id for job in self._jobs[known:]), name)

    def flush(self) -> None:
        """Do nothing: `pop_jobs` takes the jobs."""

    def pop_jobs(self) -> list[NewJob]:
        """The jobs published since the last call."""
        jobs, self._jobs, self._broadcasts = self._jobs, [], []
        return jobs


@contextmanager
def capture() -> Iterator[CaptureBatch]:
    """Within the block, the jobs that this thread dispatches are captured, of any app of ours."""
    producer, captured = _capture_producer()
    captured.pop_jobs()
    captured.connections = {}
    before, _mine.active = current_producer(), producer
    try:
        with producer.batch(max_size=1_000_000):
            yield captured
    finally:
        _mine.active = before


@contextmanager
def pause_capture() -> Iterator[None]:
    """Within the block, the jobs that this thread dispatches are sent, not captured."""
    before, _mine.active = current_producer(), None
    try:
        yield
    finally:
        _mine.active = before


def current_producer() -> Producer | None:
    """The capturing producer of this thread, while it captures.

    Looked up by each dispatch, because Celery's chains don't pass on a given producer.
    """
    return getattr(_mine, "active", None)


@contextmanager
def for_connection(name: str) -> Iterator[None]:
    """Within the block, the jobs that this thread captures belong to this connection."""
    before = getattr(_mine, "connection", None)
    _mine.connection = name
    try:
        yield
    finally:
        _mine.connection = before


def captured_jobs(app: Any, signature: Signature, **options: Any) -> list[NewJob]:
    """The jobs that applying the signature would have put."""
    with capture() as captured:
        if app.conf.task_always_eager:
            _send_by_name(app, signature, options)
        else:
            signature.apply_async(**options)
        return captured.pop_jobs()


def _send_by_name(app: Any, signature: Signature, options: dict[str, Any]) -> None:
    """Send by name: an eager app makes a message of a job only then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AlwaysEagerIgnored)
        first, *rest = signature.tasks if isinstance(signature, _chain) else [signature]
        follow = {"chain": rest[::-1]} if rest else {}
        app.send_task(
            first.task, first.args, first.kwargs, **{**first.options, **options, **follow}
        )


def _capture_producer() -> tuple[Producer, CaptureBatch]:
    if getattr(_mine, "pid", None) != os.getpid():
        channel: Any = Connection(URL).default_channel
        captured = CaptureBatch(channel, 0)
        channel.create_publish_batch = lambda max_size: captured  # noqa: ARG005  kombu's name for it
        _mine.pid, _mine.capture = os.getpid(), (Producer(channel, auto_declare=False), captured)
    capturing: tuple[Producer, CaptureBatch] = _mine.capture
    return capturing
