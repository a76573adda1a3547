"""A Redis of each supported version, and drivers on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relevo.drivers.redis.driver import RedisDriver
from tests.support.redis_servers import VERSIONS, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as server:
        yield server


@pytest.fixture
def opened(server: Server) -> Iterator[Callable[..., RedisDriver]]:
    """Open a driver on the server, with transport options. The server is emptied afterwards."""
    drivers: list[RedisDriver] = []

    def opened(**options: object) -> RedisDriver:
        drivers.append(RedisDriver(server.url, options))
        return drivers[-1]

    yield opened
    for driver in drivers:
        driver.close()
    server.client.flushall()


@pytest.fixture
def driver(opened: Callable[..., RedisDriver]) -> RedisDriver:
    return opened()


@pytest.fixture
def other(opened: Callable[..., RedisDriver]) -> RedisDriver:
    """The driver of another process."""
    return opened()
