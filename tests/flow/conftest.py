"""A project with its workers, started once for all tests of a module."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from relevo.drivers.database.driver import DatabaseDriver
from tests.support.celery_project import Project, project, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN = "tests.support.apps.plain"
# The workers of the plain project: name -> options. `main` does what isn't about a worker of
# another kind.
WORKERS = {
    "sqlite": {
        "main": ["-c", "2", "-Q", "default", "-E"],
        "once": ["-c", "1", "-Q", "once", "--max-tasks-per-child", "1"],
        "threads": ["-c", "2", "-Q", "threads", "-P", "threads"],
        "solo": ["-Q", "solo", "-P", "solo"],
        "gevent": ["-c", "2", "-Q", "gevent", "-P", "gevent"],
    },
    "postgresql": {"main": ["-c", "2", "-Q", "default", "-E"]},
}


@pytest.fixture(scope="module", params=["sqlite"])
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """The plain project on a broker, and its workers."""
    folder = tmp_path_factory.mktemp(f"plain_{request.param}")
    url = f"sqlite:///{folder}/relevo.db"
    if request.param != "sqlite":
        url = request.getfixturevalue(f"{request.param}_url")
        DatabaseDriver(url).create_schema()
    with project(PLAIN, url, folder) as opened, workers(opened, WORKERS[request.param]):
        yield opened


@contextlib.contextmanager
def workers(shop: Project, options: dict[str, list[str]]) -> Iterator[None]:
    started = {name: shop.start_worker(name, *given) for name, given in options.items()}
    try:
        for name, process in started.items():
            shop.wait_ready(name, process)
        yield
    finally:
        stop(*started.values())
