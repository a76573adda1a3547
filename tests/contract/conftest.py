"""Two drivers on each broker, `driver` and `other`, as of two processes, and their `clock`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relevo.drivers.contract import Driver
    from tests.support.brokers import Broker, HandClock

_numbers = itertools.count(1)


@pytest.fixture
def driver(broker: Broker) -> Iterator[Driver]:
    yield broker.driver
    broker.empty()


@pytest.fixture
def other(driver: Driver, broker: Broker) -> Driver:
    return broker.other


@pytest.fixture
def clock(broker: Broker) -> HandClock:
    return broker.clock


@pytest.fixture
def box(driver: Driver) -> Iterator[str]:
    """The name of an unused mailbox and of an unused exchange. The mailbox is closed at the end."""
    name = f"box-{next(_numbers)}"
    yield name
    driver.unsubscribe(name)
