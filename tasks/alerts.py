"""A job has failed for good: whoever is named in ALERT_URLS hears of it; of a critical one, the
others too.

A worker tells its listeners in the thread that does the work, so all that happens there is a
dispatch. Without anybody to tell, and for alerts themselves, nothing is dispatched.
"""

from __future__ import annotations

from typing import Any

import relevo
from relevo import alerts
from tasks import app

#: The queues whose jobs are critical.
CRITICAL = frozenset({"critical"})


@app.task(name="alerts.send", bind=True, queue="high", tries=3, timeout=60, backoff=[30, 120])
# - bound for its tries
def send(self: Any, title: str, text: str, critical: bool = False) -> int:  # noqa: ARG001
    """Tell those who are to hear of it; how many they are."""
    return alerts.send(app.settings.alerts, title, text, critical=critical)


def job_failed(event: Any) -> None:
    """A listener to `failed`."""
    critical = event.queue in CRITICAL
    people = app.settings.alerts
    if event.task == send.name or not (people.urls or (critical and people.critical)):
        return
    told = f"{event.task or 'A message that names no task'} failed on {event.queue!r}, attempt {event.attempt}."
    send.delay(
        f"{'Critical: ' if critical else ''}{event.task or 'a job'} failed",
        f"{told}\n{event.error}\nJob {event.id}"[:2000],
        critical,
    )


relevo.on("failed")(job_failed)
