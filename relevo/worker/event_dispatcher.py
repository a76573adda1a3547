"""Events of jobs and workers: those that nobody hears cost next to nothing, those that somebody
hears go in groups.

A worker with -E, or one that a Flower is looking at, sends three events a job. The channel knows
for a second that nobody hears them; an event then ends here, before it has been made, encoded and
routed. When somebody does, each was a transaction of its own (SQLite: 40 jobs a second instead of
1,800); Celery's workers with an event loop send theirs in groups, one loop turn together, and so do
ours, what comes within GROUP together.
"""

from __future__ import annotations

import threading
from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events.dispatcher import EventDispatcher
from celery.events.event import group_from
from celery.worker import state

# How long an event of a job waits for others, in seconds, and how many are sent without waiting
# longer.
GROUP, MOST = 0.05, 500


class Events(CeleryEvents):
    """What `app.events` is."""

    dispatcher_cls = "relevo.worker.event_dispatcher:Dispatcher"


class Dispatcher(EventDispatcher):
    """Celery's dispatcher of events."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # The worker alone says how events are to be grouped: not at all, where it has no event loop
        # to do it.
        if "on_send_buffered" in options and not options["buffer_group"]:
            options |= {
                "buffer_group": {"task"},
                "buffer_limit": MOST,
                "on_send_buffered": self._send_soon,
            }
        self._sending = threading.Lock()
        super().__init__(*args, **options)

    def send(self, type: str, *args: Any, **fields: Any) -> Any:  # noqa: A002  Celery's name
        """Send an event, unless its channel is one of ours and knows that nobody hears it.

        On ours none waits for a broker that is away, nor is kept for it: an event tells of now.
        (Celery tries to send a heartbeat for ever, from a thread that has the lock meanwhile: a
        worker that was told to stop waited for it.)
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
            timer = threading.Timer(GROUP, self._send_group)
            timer.daemon = True
            timer.start()

    def _send_group(self) -> None:
        self._sending.release()  # first: an event that comes now may miss this group
        self.flush(errors=False)
