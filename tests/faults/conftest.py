"""The brokers that real workers are killed on, each by its url."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relevo.drivers import driver_for
from tests.support import servers
from tests.support.workers import Site

if TYPE_CHECKING:
    from pathlib import Path

# A driver to come adds the name of its `…_url` fixture.
BROKERS = ["sqlite", "postgresql", "redis"]


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty broker's url."""
    return broker_url(request.param, request, tmp_path)


@pytest.fixture
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Every broker's url, for a long test, which runs on all of them side by side."""
    return [broker_url(name, request, tmp_path) for name in BROKERS]


@pytest.fixture
def site(url: str, tmp_path: Path) -> Site:
    """A new queue on the broker at `url`, and a new journal."""
    return Site(url, tmp_path)


def broker_url(name: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The url of a new SQLite file, or of the session's server, with our tables."""
    if name == "sqlite":
        return servers.sqlite_file(folder / "broker.db")
    url: str = request.getfixturevalue(f"{name}_url")
    driver = driver_for(url)
    if hasattr(driver, "create_schema"):
        driver.create_schema()
    return url
