"""Jobs for the tests of drivers: put, reserved and counted in a word."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from relevo.drivers.contract import Driver, NewJob, ReservedJob, State

if TYPE_CHECKING:
    from collections.abc import Iterable

LEASE = 30.0
_numbers = itertools.count(1)


def job(queue: str = "default", **fields: Any) -> NewJob:
    """A new job with an id of its own, unless one is given."""
    return NewJob(queue=queue, **{"payload": "{}", "id": f"job-{next(_numbers)}"} | fields)


def put(driver: Driver, *ids: str, queue: str = "default", **fields: Any) -> None:
    """Put jobs of these ids, in this order."""
    driver.put([job(queue, id=id_, **fields) for id_ in ids])


def take(driver: Driver, *queues: str, limit: int = 100, lease: float = LEASE) -> list[ReservedJob]:
    """Reserve jobs of these queues, or of "default", as a worker does."""
    return driver.reserve(queues or ("default",), limit, lease, by="worker")


def take_one(driver: Driver, queue: str = "default", lease: float = LEASE) -> ReservedJob:
    """Reserve the only job of a queue; more or fewer are a failure."""
    [only] = take(driver, queue, lease=lease)
    return only


def ids(jobs: Iterable[Any]) -> list[str]:
    """The ids of jobs, put results or views, in their order."""
    return [job.id for job in jobs]


def counts(driver: Driver, queue: str = "default") -> tuple[int, int, int]:
    """The numbers of pending, delayed and reserved jobs."""
    sizes = driver.sizes(queue)
    return sizes.pending, sizes.delayed, sizes.reserved


def jobs_in(driver: Driver, queue: str = "default") -> int:
    """The number of jobs in a queue, in any state."""
    return sum(counts(driver, queue))


def state_of(driver: Driver, id_: str, queue: str = "default") -> list[State]:
    """The states in which a job is shown: one if it exists, none if it is gone, never two."""
    return [
        state
        for state in State
        for view in driver.peek(queue, state, limit=10_000)
        if view.id == id_
    ]


def by_name(table: dict[str, str]) -> list[Any]:
    """The texts of a table as parameters whose ids are their names."""
    return [pytest.param(text, id=name.replace(" ", "-")) for name, text in table.items()]
