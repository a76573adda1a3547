"""Clear a queue so that the batches, chains and chords of what goes hear of it: for them it was
cancelled.

    what belongs to nothing                -> deleted by the driver, as quickly as it can
    members, runs, what came by the outbox -> a page at a time: held, so that no worker starts it; counted as cancelled;
                                              and only then forgotten

Whoever clears may die at any point: what he held comes back as it was, and the next clear counts
nothing twice. Callbacks that are handed in because of it stay.

`register_clear` makes Celery's own ways here lead the same way: `celery purge`, `app.control.purge`,
kombu's `queue_delete`.
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
from relevo.transport import channel

# One of these is in the payload of every job whose end matters to somebody.
MARKS = (
    membership.MEMBER_HEADER,
    membership.OUTBOX_HEADER,
    membership.ENTRY_HEADER,
    membership.CHORD_OPTION,
)
# So many at a time: each page is one transaction in the store, one step in the broker.
PAGE = 500

_apps: WeakSet[Any] = WeakSet()


def clear(app: Any, driver: Driver, queue: str) -> int:
    """Delete the pending and delayed jobs of a queue. Returns how many. Raises DriverError; done
    again, it goes on.
    """
    if getattr(app, "settings", None) is None:
        return driver.clear(queue)
    total, callbacks, before = driver.clear(queue, MARKS), set[str](), list[JobView]()
    while (
        page := _page(driver, queue, callbacks)
    ) and page != before:  # the same again can't be had by its id
        gone = cancel.taken_out(
            driver, [job.id for job in page], lambda jobs: callbacks.update(_counted(app, jobs))
        )
        total, before = total + len(gone), page
    return total


def _counted(app: Any, jobs: Sequence[JobView]) -> set[str]:
    """The callbacks that are handed in because these jobs go."""
    matter = [job for job in jobs if any(mark in job.payload for mark in MARKS)]
    return cancel.counted(app, delivery_of(app).store, matter) if matter else set()


def _page(driver: Driver, queue: str, callbacks: set[str]) -> list[JobView]:
    """The first jobs that wait, but for the callbacks that were handed in because of this: they are
    to run.
    """
    for state in (State.PENDING, State.DELAYED):
        found = driver.peek(queue, state, PAGE + len(callbacks))
        if page := [job for job in found if job.id and job.id not in callbacks]:
            return page
    return []


def register_clear(app: Any) -> None:
    """Let what Celery and kombu clear of this app's brokers be counted, too."""
    _apps.add(app)
    channel.clearer = _clear


def _clear(driver: Driver, queue: str) -> int | None:
    # Who clears by kombu doesn't say for which app: of several on one broker it is Celery's current
    # one.
    current = current_app._get_current_object()  # noqa: SLF001  Celery's own way
    apps = sorted(_apps, key=lambda app: app is not current)
    found = next((app for app in apps if driver in _drivers_of(app)), None)
    return None if found is None else clear(found, driver, queue)


def _drivers_of(app: Any) -> list[Driver]:
    conf = app.conf
    ways = [(conf.broker_url, conf.broker_transport_options, conf.broker_use_ssl)]
    ways += [(each.url, each.transport_options, None) for each in app.settings.connections.values()]
    return [driver_for(*way) for way in ways if is_ours(way[0])]
