"""The events of jobs: `relevo.on` registers a listener, and Relevo calls it where an event happens.

    @relevo.on("failed")
    def alarm(event): ...

    event        in which process      when
    dispatched   the dispatching one   the broker has the job, and its transaction has committed
    rescued      worker, main process  it has reserved a job that a dead worker held
    reserved     worker, main process  it has reserved the job
    processing   worker, main process  an attempt has begun
    processed    worker, main process  the job has completed
    released     worker, main process  the job is released, or will be tried again after `error`
    timed_out    worker, main process  an attempt ran too long; `released` or `failed` follows
    failed       worker, main process  the job has failed for good
    cancelled    worker, main process  the job ended without a run: revoked, expired, skipped, or
                                       its model is gone
    queue_busy   `queues monitor`      a queue is longer, or has waited longer, than allowed

A listener runs at once, in the thread that does the work, so it should be quick. An exception in a
listener is logged and stops nothing. An event without listeners costs one lookup in a dict. Two
events come from Celery's signals; these are connected when the first listener registers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from relevo.drivers import message_codec
from relevo.drivers.values import NewJob
from relevo.errors import OptionError, did_you_mean
from relevo.job import error_report
from relevo.job.outcome import cancel_reason
from relevo.transport import put_results

logger = logging.getLogger(__name__)


class Event(StrEnum):
    """The kinds of events."""

    DISPATCHED = "dispatched"
    RESCUED = "rescued"
    RESERVED = "reserved"
    PROCESSING = "processing"
    PROCESSED = "processed"
    RELEASED = "released"
    TIMED_OUT = "timed_out"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUEUE_BUSY = "queue_busy"


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An event of one job. `task` is None when the message names no task.

    `error` says what went wrong, or why the job was cancelled. `seconds` is how long the job ran
    (processed), waits (released) or was allowed to run (timed_out). `rescues` counts the workers
    that have died with the job.
    """

    event: Event
    id: str
    task: str | None
    queue: str
    attempt: int
    error: str | None = None
    seconds: float | None = None
    rescues: int = 0


@dataclass(frozen=True, slots=True)
class QueueEvent:
    """A queue has more than `most` jobs, or its oldest job has waited more than `longest` seconds.

    None: there is no such bound.
    """

    event: Event
    queue: str
    pending: int
    waited: float | None
    most: int | None
    longest: float | None


Listener = TypeVar("Listener", bound=Callable[[Any], Any])

_listeners: dict[Event, list[Callable[[Any], Any]]] = {}
_signals: dict[Event, tuple[Any, Callable[..., None]]] = {}


def on(*names: str) -> Callable[[Listener], Listener]:
    """Decorator: call the function with a `JobEvent` each time one of these events happens.

    A listener of `queue_busy` gets a `QueueEvent`. Raises OptionError for an unknown event.
    """
    events = [_event_named(name) for name in names]

    def listen(listener: Listener) -> Listener:
        for event in events:
            _listeners.setdefault(event, []).append(listener)
            _connect(event)
        return listener

    return listen


def remove(listener: Callable[[Any], Any]) -> None:
    """Remove a listener from all its events."""
    for event in list(_listeners):
        _listeners[event] = [each for each in _listeners[event] if each is not listener]
        if not _listeners[event]:
            del _listeners[event]


def bind_signal(event: Event, signal: Any, receiver: Callable[..., None]) -> None:
    """Say which signal of Celery's makes an event. It is connected for the first listener."""
    _signals[event] = signal, receiver
    if event in _listeners:
        _connect(event)


def has_listeners(event: Event) -> bool:
    """Whether the event has listeners. If not, it needn't be made."""
    return event in _listeners


def emit(event: JobEvent | QueueEvent) -> None:
    """Call the listeners of an event, in the order in which they were registered."""
    for listener in list(_listeners.get(event.event, ())):
        try:
            listener(event)
        except Exception:
            logger.exception("a listener of %r raised: %r", event.event.value, listener)


def emit_for(request: Any, event: Event, **facts: Any) -> None:
    """Emit an event for the job of a request of the worker's main process."""
    if event in _listeners:
        queue = str((request.delivery_info or {}).get("routing_key") or "")
        attempt = int(request.request_dict.get("retries") or 0) + 1
        emit(JobEvent(event, str(request.id), request.type, queue, attempt, **facts))


def emit_released(request: Any, retry: Any) -> None:
    """Call the listeners of the release that ended an attempt: Celery's Retry, or ours."""
    if Event.RELEASED in _listeners:
        seconds = getattr(retry, "seconds", retry.when)
        seconds = seconds if isinstance(seconds, (int, float)) else None
        error = retry.exc and error_report.representation(retry.exc)
        emit_for(request, Event.RELEASED, error=error, seconds=seconds)


def emit_returned(request: Any, result: Any, ran: float | None) -> None:
    """Call the listeners of a job that has returned: processed, or cancelled before it ran.

    `ran`: how long the attempt ran, in seconds.
    """
    if Event.PROCESSED in _listeners or Event.CANCELLED in _listeners:
        reason = cancel_reason(result)
        if reason is None:
            emit_for(request, Event.PROCESSED, seconds=ran)
        else:
            emit_for(request, Event.CANCELLED, error=reason)


def on_published(
    headers: Any = None, routing_key: str = "", sender: Any = None, **_signal: Any
) -> None:
    """Emit `dispatched` for a message that Celery has published, unless it is a retry.

    What Celery has published into a batch or a transaction is not at the broker yet: see `on_put`.
    """
    if isinstance(headers, dict) and headers.get("id") and not headers.get("retries"):
        if not put_results.was_put(str(headers["id"])):
            return
        name = sender if isinstance(sender, str) else headers.get("task")
        emit(JobEvent(Event.DISPATCHED, str(headers["id"]), name, str(routing_key or ""), 1))


def on_put(jobs: Sequence[NewJob]) -> None:
    """Emit `dispatched` for jobs that were put in one step, and are committed."""
    if Event.DISPATCHED not in _listeners:
        return
    for job in jobs:
        headers = message_codec.headers_of(job.payload)
        if headers.get("id") and not headers.get("retries"):
            emit(JobEvent(Event.DISPATCHED, job.id, headers.get("task"), job.queue, 1))


def on_received(request: Any, **_signal: Any) -> None:
    """Emit `rescued` and `reserved` for a request that Celery has made from a message."""
    rescues = getattr(getattr(request.message, "job", None), "rescues", 0)
    if rescues:
        emit_for(request, Event.RESCUED, rescues=rescues)
    emit_for(request, Event.RESERVED, rescues=rescues)


def _connect(event: Event) -> None:
    if event in _signals:
        signal, receiver = _signals[event]
        signal.connect(receiver, dispatch_uid=f"relevo.events.{receiver.__name__}", weak=False)


def _event_named(name: str) -> Event:
    known = [event.value for event in Event]
    if name not in known:
        raise OptionError(
            f"expected an event of {', '.join(known)}, got {name!r}{did_you_mean(str(name), known)}"
        )
    return Event(name)
