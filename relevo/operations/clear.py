"""Clears a queue. Batches, chains, chords and runs of the schedule count its jobs as cancelled.

    plain jobs                      the driver deletes them, all in one step
    members, runs, jobs that came   a page at a time: held, so that no worker starts them;
    through the outbox              counted as cancelled; then deleted

If the process dies in between, the held jobs come back as they were, and the next clear counts none
of them twice. Callbacks that are handed in because of the clear stay in the queue.

With `register_clear`, `celery purge`, `app.control.purge` and kombu's `queue_delete` clear in
the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from celery import current_app

from relevo.dispatch.delivery import delivery_of
from relevo.drivers import driver_for, is_ours
from relevo.drivers.contract import Driver, JobView, State
from relevo.job import membership
from relevo.operations import cancel
from relevo.transport import context

# The payload of every job whose end is counted somewhere contains one of these.
MARKS = (
    membership.MEMBER_HEADER,
    membership.OUTBOX_HEADER,
    membership.ENTRY_HEADER,
    membership.CHORD_OPTION,
)
# Jobs a page: each page is one transaction in the store and one step in the broker.
PAGE = 500

_apps: WeakSet[Any] = WeakSet()


def clear(app: Any, driver: Driver, queue: str) -> int:
    """Delete the pending and delayed jobs of a queue. Returns how many. Raises DriverError; another
    call goes on from there.
    """
    if getattr(app, "settings", None) is None:
        return driver.clear(queue)
    total, callbacks, before = driver.clear(queue, MARKS), set[str](), list[JobView]()
    # The same page twice: these jobs can't be held by their ids.
    while (page := _page(driver, queue, callbacks)) and page != before:
        gone = cancel.withdraw(
            driver, [job.id for job in page], lambda jobs: callbacks.update(_count(app, jobs))
        )
        total, before = total + len(gone), page
    return total


def _count(app: Any, jobs: Sequence[JobView]) -> set[str]:
    """Count jobs as cancelled. Returns the ids of the callbacks that are handed in for that."""
    marked = [job for job in jobs if any(mark in job.payload for mark in MARKS)]
    return cancel.count_as_cancelled(app, delivery_of(app).store, marked) if marked else set()


def _page(driver: Driver, queue: str, callbacks: set[str]) -> list[JobView]:
    """The first waiting jobs, without the callbacks that were handed in by this clear."""
    for state in (State.PENDING, State.DELAYED):
        found = driver.peek(queue, state, PAGE + len(callbacks))
        if page := [job for job in found if job.id and job.id not in callbacks]:
            return page
    return []


def register_clear(app: Any) -> None:
    """Count the jobs, too, that Celery and kombu clear from this app's brokers."""
    _apps.add(app)
    context.current().clear_queue = _clear


def _clear(driver: Driver, queue: str) -> int | None:
    # kombu doesn't name the app. Of several apps on one broker this takes Celery's current one.
    current = current_app._get_current_object()  # noqa: SLF001
    apps = sorted(_apps, key=lambda app: app is not current)
    found = next((app for app in apps if driver in _drivers_of(app)), None)
    return None if found is None else clear(found, driver, queue)


def _drivers_of(app: Any) -> list[Driver]:
    conf = app.conf
    brokers = [(conf.broker_url, conf.broker_transport_options, conf.broker_use_ssl)]
    brokers += [(it.url, it.transport_options, None) for it in app.settings.connections.values()]
    return [driver_for(*broker) for broker in brokers if is_ours(broker[0])]
