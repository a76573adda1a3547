"""What happens to jobs, told to whoever listens, in the process where it happens.

    @relevo.on("failed")
    def alarm(event): ...

    dispatched   the process that dispatches, after the broker has the job
    rescued      a worker's main process: a job it takes was held by a worker that died
    reserved     .. it has taken the job
    processing   .. an attempt has begun
    processed    .. the job has completed
    released     .. the job goes back: released, or to be tried again after `error`
    timed_out    .. an attempt has run too long; what follows from it is told by `released` or `failed`
    failed       .. the job has failed for good
    cancelled    .. the job has ended without being run: revoked, expired, skipped, or what it was about is gone
    queue_busy   `celery -A tasks queues monitor`: a queue is fuller, or waits for longer, than it was said to

A listener is called at once, in the thread that does the work, so it had better be quick. One that
raises is logged and harms nobody. An event nobody listens to costs a look into a dict; two of them
are Celery's signals, which are connected when somebody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from relevo.errors import OptionError, did_you_mean
from relevo.transport import put_results

logger = logging.getLogger(__name__)


class Event(StrEnum):
    """What can happen to a job."""

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
    """Something that happened to a job. `task` is None for a message that names none.

    `error`: what went wrong, or why it was cancelled, in words. `seconds`: how long it ran
    (processed), waits (released) or might run (timed out). `rescues`: how many workers have died
    with it.
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
    """A queue is fuller than `most`, or its oldest job has waited for longer than `longest` seconds
    (None: unasked).
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
    """Decorator: call the function with a `JobEvent` (of queue_busy: a `QueueEvent`) whenever one
    of these happens.

    Raises OptionError for a name that is none.
    """
    events = [_named(name) for name in names]

    def listen(listener: Listener) -> Listener:
        for event in events:
            _listeners.setdefault(event, []).append(listener)
            _connect(event)
        return listener

    return listen


def remove(listener: Callable[[Any], Any]) -> None:
    """Call this listener no more."""
    for event in list(_listeners):
        _listeners[event] = [each for each in _listeners[event] if each is not listener]
        if not _listeners[event]:
            del _listeners[event]


def bind_signal(event: Event, signal: Any, receiver: Callable[..., None]) -> None:
    """An event comes from this signal of Celery's: connect it as soon as somebody listens."""
    _signals[event] = signal, receiver
    if event in _listeners:
        _connect(event)


def has_listeners(event: Event) -> bool:
    """Whether anybody listens, so that the event is worth making."""
    return event in _listeners


def emit(event: JobEvent | QueueEvent) -> None:
    """Call the listeners, in the order in which they came."""
    for listener in list(_listeners.get(event.event, ())):
        try:
            listener(event)
        except Exception:
            logger.exception("a listener of %r raised: %r", event.event.value, listener)


def emit_for(request: Any, event: Event, **facts: Any) -> None:
    """Tell that something happened to the job of a request (of the worker's main process)."""
    if event in _listeners:
        queue = str((request.delivery_info or {}).get("routing_key") or "")
        attempt = int(request.request_dict.get("retries") or 0) + 1
        emit(JobEvent(event, str(request.id), request.type, queue, attempt, **facts))


def on_published(
    headers: Any = None, routing_key: str = "", sender: Any = None, **_signal: Any
) -> None:
    """Celery has published a message. One that is sent again on its way isn't a dispatch."""
    if isinstance(headers, dict) and headers.get("id") and not headers.get("retries"):
        if not put_results.was_put(str(headers["id"])):
            return
        name = sender if isinstance(sender, str) else headers.get("task")
        emit(JobEvent(Event.DISPATCHED, str(headers["id"]), name, str(routing_key or ""), 1))


def on_received(request: Any, **_signal: Any) -> None:
    """Celery has made a request of a message."""
    rescues = getattr(getattr(request.message, "job", None), "rescues", 0)
    if rescues:
        emit_for(request, Event.RESCUED, rescues=rescues)
    emit_for(request, Event.RESERVED, rescues=rescues)


def _connect(event: Event) -> None:
    if event in _signals:
        signal, receiver = _signals[event]
        signal.connect(receiver, dispatch_uid=f"relevo.events.{receiver.__name__}", weak=False)


def _named(name: str) -> Event:
    known = [event.value for event in Event]
    if name not in known:
        raise OptionError(
            f"expected an event of {', '.join(known)}, got {name!r}{did_you_mean(str(name), known)}"
        )
    return Event(name)
