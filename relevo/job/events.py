"""Events of jobs and workers that nobody hears cost next to nothing.

A worker with -E, or one that Flower has looked at once, sends three events a job, whether anyone listens or not. The
channel knows for a second that nobody does; here an event then ends before it has been made, encoded and routed.
"""

from __future__ import annotations

from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher


class Events(CeleryEvents):
    """What `app.events` is."""

    dispatcher_cls = "relevo.job.events:Dispatcher"


class Dispatcher(EventDispatcher):
    """Celery's dispatcher of events."""

    def send(self, type: str, *args: Any, **fields: Any) -> Any:  # noqa: A002  Celery's name
        """Send an event, unless its channel is one of ours and knows that nobody listens."""
        is_unheard = getattr(getattr(self.producer, "_channel", None), "is_unheard", None)
        return None if is_unheard and is_unheard(type.replace("-", ".")) else super().send(type, *args, **fields)
