"""alerts.send: tells the receivers of ALERT_URLS that a job has failed for good. A failure on a
critical queue goes to the critical receivers, too.

A worker calls its listeners in the thread that does the work, so the listener only dispatches a
job. It dispatches nothing without receivers, and nothing when an alert itself has failed.
"""

from __future__ import annotations

from typing import Any

import relevo
from relevo import alerts
from tasks import app

#: The queues whose jobs are critical.
CRITICAL = frozenset({"critical"})


@app.task(name="alerts.send", bind=True, queue="high", tries=3, timeout=60, backoff=[30, 120])
def send(self: Any, title: str, text: str, critical: bool = False) -> int:  # noqa: ARG001
    """Send an alert to its receivers. Returns how many they are."""
    return alerts.send(app.settings.alerts, title, text, critical=critical)


def job_failed(event: Any) -> None:
    """The listener to the event `failed`: dispatch an alert."""
    critical = event.queue in CRITICAL
    people = app.settings.alerts
    if event.task == send.name or not (people.urls or (critical and people.critical)):
        return
    name = event.task or "A message that names no task"
    line = f"{name} failed on {event.queue!r}, attempt {event.attempt}."
    send.delay(
        f"{'Critical: ' if critical else ''}{event.task or 'a job'} failed",
        f"{line}\n{event.error}\nJob {event.id}"[:2000],
        critical,
    )


relevo.on("failed")(job_failed)
