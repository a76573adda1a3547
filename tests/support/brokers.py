"""The brokers that the contract is tested on, each with two drivers, as two processes would have.

All of them read the time from one clock that a test moves by hand. It never goes back, not even
between tests.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relevo.drivers.contract import Driver, State
from relevo.drivers.memory import MemoryDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

# A new driver is added here and in `opener`.
BROKERS = ["memory", "sqlite", "postgresql", "mariadb", "redis"]
EVERYTHING = 1_000_000


@dataclass(eq=False)
class HandClock:
    """A clock that a test moves. It starts at a whole number, so that sums of whole seconds are
    exact.
    """

    time: float = 2_000_000_000.0

    def __call__(self) -> float:
        return self.time

    def forward(self, seconds: float) -> float:
        """Let time pass; returns the new time."""
        self.time += seconds
        return self.time


@dataclass
class Broker:
    """One broker with two drivers on it: ours, and the one of another process."""

    name: str
    open: Callable[[Callable[[], float] | None], Driver]
    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.driver = self.open(self.clock)
        self.other = self.open(self.clock)

    def empty(self) -> None:
        """Leave no job, pause or suspension behind. It uses the contract's own verbs, for every
        broker.
        """
        for queue in self.driver.queues():
            self.driver.clear(queue)
            self.driver.delete(
                view.id for view in self.driver.peek(queue, State.RESERVED, EVERYTHING)
            )
        for queue in self.driver.paused():
            self.driver.resume(queue)
        for what in self.driver.suspended():
            self.driver.lift(what)

    def close(self) -> None:
        """Close the connections of both drivers."""
        self.driver.close()
        self.other.close()


def opener(
    name: str, request: pytest.FixtureRequest
) -> Callable[[Callable[[], float] | None], Driver]:
    """The function that opens another driver on this broker. It starts the broker's server."""
    if name == "memory":
        return _memory()
    url: str = request.getfixturevalue(f"{name}_url")
    if name == "redis":
        redis = importlib.import_module("relevo.drivers.redis.driver")
        return lambda clock: redis.RedisDriver(url, clock=clock)
    database = importlib.import_module("relevo.drivers.database.driver")
    database.DatabaseDriver(url).create_schema()
    return lambda clock: database.DatabaseDriver(url, clock=clock)


def _memory() -> Callable[[Callable[[], float] | None], Driver]:
    """The driver in memory. The second driver is the same broker, if both read the same clock."""
    known: dict[Callable[[], float] | None, MemoryDriver] = {}
    return lambda clock: known.setdefault(clock, MemoryDriver(clock) if clock else MemoryDriver())
