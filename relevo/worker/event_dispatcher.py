"""Celery's events of jobs and workers, sent in groups, and not at all where nobody receives them.

A worker with -E, or one that a Flower watches, sends three events per job. The channel remembers
for a second that nobody received an event; a further one then ends here, before it is made, encoded
and routed. With a receiver each event was a transaction of its own (SQLite: 40 jobs a second
instead of 1,800). Celery's workers with an event loop send the events of one loop turn together.
Ours send together what comes within GROUP_SECONDS.
"""

from __future__ import annotations

import threading
from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher
from celery.events.event import group_from
from celery.worker import state

# How long the event of a job waits for others, in seconds.
GROUP_SECONDS = 0.05
# With this many events a group is sent at once.
MOST = 500


class Events(CeleryEvents):
    """The class of `app.events`."""

    dispatcher_cls = "relevo.worker.event_dispatcher:Dispatcher"


class Dispatcher(EventDispatcher):
    """Celery's dispatcher of events."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # Only the worker asks for grouping. Without an event loop it asks for none.
        if "on_send_buffered" in options and not options["buffer_group"]:
            options |= {
                "buffer_group": {"task"},
                "buffer_limit": MOST,
                "on_send_buffered": self._send_soon,
            }
        self._sending = threading.Lock()
        super().__init__(*args, **options)

    def send(self, type: str, *args: Any, **fields: Any) -> Any:  # noqa: A002  Celery's name
        """Send an event, unless its channel is one of ours and knows that nobody receives it.

        On our channels no event waits, or is kept, for a broker that is away: it would be out of
        date. (Celery tries to send a heartbeat for ever, from a thread that holds the lock
        meanwhile, and a worker that was told to stop waited for it.)
        """
        is_unheard = getattr(getattr(self.producer, "_channel", None), "is_unheard", None)
        if is_unheard is None:
            return super().send(type, *args, **fields)
        if is_unheard(self._key(type)):
            return None
        sent = super().send(type, *args, **(fields | {"retry": False}))
        self._outbound_buffer.clear()
        return sent

    def _key(self, type: str) -> str:  # noqa: A002
        group = group_from(type)
        return f"{group}.multi" if group in self.buffer_group else type.replace("-", ".")

    def _send_soon(self) -> None:
        if state.should_stop is not None:  # the connection may be gone by then
            self.flush(errors=False)
        elif self._sending.acquire(blocking=False):
            timer = threading.Timer(GROUP_SECONDS, self._send_group)
            timer.daemon = True
            timer.start()

    def _send_group(self) -> None:
        self._sending.release()  # first: an event that comes now may miss this group
        self.flush(errors=False)
