"""Put failed jobs back: claimed in the store, put into their broker all together, marked as retried.

Each goes to the queue and connection it came from, with its own id and a fresh count of attempts, and knows which
failed job it is a retry of. Two who retry the same job at once send it once. One whose unique key another job has by
now is not sent, and stays as it is.
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
    total, after = 0, 0
    while True:
        name, jobs = claims.claim(store, which, after=after)
        if not jobs:
            return total
        try:
            sent = put(app, jobs)
            claims.settle(store, name, sent)
        finally:
            claims.give_up(store, name)  # those that were refused
        total, after = total + len(sent), jobs[-1].id


def put(app: Any, jobs: Sequence[FailedJob]) -> list[int]:
    """Put failed jobs into their brokers. Returns the numbers of those that are there now. Raises DriverError."""
    sent: list[int] = []
    for name, same in groupby(sorted(jobs, key=lambda job: job.connection), key=lambda job: job.connection):
        with app.connection_for_write(_url(app, name)) as connection:
            channel = connection.default_channel
            if hasattr(channel, "driver"):
                these = list(same)
                placed = channel.driver.put([_new_job(job) for job in these])
                sent += [job.id for job, place in zip(these, placed, strict=True) if place.id == job.uuid]
            else:
                for job in same:
                    channel._put(job.queue, messages.loads(failures.fresh(job)))  # noqa: SLF001  kombu's way to a queue
                    sent.append(job.id)
    return sent


def _new_job(job: FailedJob) -> NewJob:
    payload = failures.fresh(job)
    new = NewJob(queue=job.queue, payload=payload, id=job.uuid, unique_key=f"failed:{job.id}")
    try:
        said = messages.new_job(job.queue, messages.loads(payload))
        key = (said.unique_key if job.batch is None else None) or new.unique_key  # no member is left out as a duplicate
        # It replaces nothing.
        return replace(new, priority=said.priority, unique_key=key, unique_for=said.unique_for, fair_key=said.fair_key)
    except Exception:  # noqa: BLE001  it can't be read, and goes back all the same
        return new


def _url(app: Any, name: str) -> str | None:
    connections = getattr(getattr(app, "settings", None), "connections", {})
    return connections[name].url if name in connections else None
