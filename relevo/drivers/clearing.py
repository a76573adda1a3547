"""How a queue is cleared that Celery or kombu has cleared: `celery purge`, `app.control.purge`, `queue_delete`."""

from __future__ import annotations

from collections.abc import Callable

from relevo.drivers.contract import Driver

#: Who clears queues in this process, if anybody: answers None where it isn't its broker. Set by the app: this package
#: knows nothing of batches, which are to hear of it.
clearer: Callable[[Driver, str], int | None] | None = None


def clear(driver: Driver, queue: str) -> int:
    """Delete the pending and delayed jobs of a queue. Returns how many."""
    cleared = None if clearer is None else clearer(driver, queue)
    return driver.clear(queue) if cleared is None else cleared
