"""Limits on every broker: `limits` and `other`, as of two processes, and jobs that hold permits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relevo.drivers.contract import NewJob
from relevo.limits.contract import Holder
from relevo.middleware.limit_context import limits_beside
from tests.support.driver_jobs import LEASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relevo.drivers.contract import Driver, ReservedJob
    from relevo.limits.contract import Limits
    from tests.support.brokers import Broker, HandClock


class Ground:
    """The limits of a broker in two processes, and its jobs."""

    def __init__(self, broker: Broker) -> None:
        self.broker, self.clock = broker, broker.clock
        self.driver: Driver = broker.driver
        self.mine: Limits = limits_beside(broker.driver)
        self.theirs: Limits = self.mine if broker.name == "memory" else limits_beside(broker.other)
        self.reserved: dict[str, ReservedJob] = {}

    def job(self, job_id: str, lease: float = LEASE) -> Holder:
        """Reserve the job of this id, and put it before if it doesn't exist."""
        queue = f"q-{job_id}"
        if not self.driver.sizes(queue).pending:
            self.driver.put([NewJob(queue, "{}", job_id)])
        [job] = self.driver.reserve([queue], 1, lease, "worker")
        self.reserved[job_id] = job
        return Holder(job.lease.token, job_id, "a.task")

    def empty(self) -> None:
        for view in self.mine.views():
            self.mine.clear(view.key)
        for name in self.mine.redefined_rates():
            self.mine.redefine(name, None)
        self.broker.empty()


@pytest.fixture
def ground(broker: Broker) -> Iterator[Ground]:
    ground = Ground(broker)
    yield ground
    ground.empty()


@pytest.fixture
def limits(ground: Ground) -> Limits:
    return ground.mine


@pytest.fixture
def other(ground: Ground) -> Limits:
    return ground.theirs


@pytest.fixture
def clock(broker: Broker) -> HandClock:
    return broker.clock
