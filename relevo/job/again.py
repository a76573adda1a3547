"""Put failed jobs back: claimed in the store, put into their broker all together, marked as retried.

Each goes to the queue and connection it came from, with its own id and a fresh count of attempts, and knows which
failed job it is a retry of. Two who retry the same job at once send it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from relevo.drivers import messages
from relevo.drivers.values import NewJob
from relevo.job import failures
from relevo.store import claims
from relevo.store.failed import FailedJob, Filter
from relevo.store.session import Store


def retry(app: Any, store: Store, which: Filter) -> int:
    """Put back every failed job that fits and was not retried yet. Returns how many this call has sent."""
    which = replace(which, newest=claims.newest(store))  # one that fails again meanwhile isn't retried again
    total = 0
    while True:
        name, jobs = claims.claim(store, which)
        if not jobs:
            return total
        try:
            put(app, jobs)
        except BaseException:
            claims.give_up(store, name)
            raise
        claims.settle(store, name)
        total += len(jobs)


def put(app: Any, jobs: Sequence[FailedJob]) -> None:
    """Put failed jobs into their brokers. Raises DriverError."""
    for name, same in groupby(sorted(jobs, key=lambda job: job.connection), key=lambda job: job.connection):
        with app.connection_for_write(_url(app, name)) as connection:
            channel = connection.default_channel
            if hasattr(channel, "driver"):
                channel.driver.put([_new_job(job) for job in same])
            else:
                for job in same:
                    channel._put(job.queue, messages.loads(failures.fresh(job)))  # noqa: SLF001  kombu's way to a queue


def _new_job(job: FailedJob) -> NewJob:
    payload = failures.fresh(job)
    new = NewJob(queue=job.queue, payload=payload, id=job.uuid, unique_key=f"failed:{job.id}")
    try:
        return replace(new, priority=messages.new_job(job.queue, messages.loads(payload)).priority)
    except Exception:  # noqa: BLE001  it can't be read, and goes back all the same
        return new


def _url(app: Any, name: str) -> str | None:
    connections = getattr(getattr(app, "settings", None), "connections", {})
    return connections[name].url if name in connections else None
