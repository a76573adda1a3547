"""What every test may ask for: a url of each broker, and one broker after the other for what must
hold on all.

A server starts when the first test asks for it and serves the whole session, with one database. A
test that needs a file of its own makes it in `tmp_path`.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING

import pytest
from celery import _state
from celery.app import builtins as _builtins  # noqa: F401  the tasks that every app has

from relevo.database import schema
from relevo.database.engine import engine_for
from tests.support import no_fsync, servers, sqlite_tables  # noqa: F401  no fsync, in this process either
from tests.support.brokers import BROKERS, Broker, opener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Some machines ask Python to keep nothing that it has compiled. We start hundreds of processes, in
# each of which compiling our own modules anew would take longer than anything else.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The slowest first.
SLOW = (
    "tests/flow/",
    "tests/application/test_dev",
    "test_live.py",
    "test_killed.py",
    "tests/faults/",
    "tests/application/",
    "tests/properties/",
    "test_browser.py",
    "test_crash_points.py",
    "test_chords",
    "tests/drivers/",
)

CELERYS_OWN = frozenset(_state._on_app_finalizers)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with servers.redis() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with servers.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    with servers.mariadb() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_url() -> Iterator[str]:
    with servers.sqlite() as url:
        yield url


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the application's tables in it, to be copied: Alembic takes a third of a second
    to make them.
    """
    path = tmp_path_factory.mktemp("new") / "app.sqlite3"
    importlib.import_module("app.models.schema").upgrade(engine_for(f"sqlite:///{path}"))
    engine_for(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture(scope="session", autouse=True)
def _quick_tables() -> Iterator[None]:
    """The engine's tables of a new SQLite file as the migrations have made them once, unless a test
    is about those.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_upgrade", sqlite_tables.quickly)
        yield


@pytest.fixture(scope="session", params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    opened = Broker(request.param, opener(request.param, request))
    yield opened
    opened.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for real processes first: at the end it would leave all but one of those that run
    tests idle.
    """
    items.sort(
        key=lambda item: (
            SLOW.index(found[0]) if (found := [s for s in SLOW if s in item.nodeid]) else len(SLOW)
        )
    )


def pytest_collection_finish() -> None:
    _forget_tasks()  # of the modules that were imported for it
    gc.collect()
    gc.freeze()  # what is imported stays: each full collection would look at all of it again


def _forget_tasks() -> None:
    """Celery gives an app's tasks to every app finalized later, so a test's would reach the next
    one's.
    """
    _state._on_app_finalizers.intersection_update(CELERYS_OWN)


@pytest.fixture(autouse=True)
def _own_state() -> Iterator[None]:
    yield
    _forget_tasks()
    if worker := sys.modules.get(
        "celery.worker.state"
    ):  # a worker in this process that was told to stop
        worker.should_stop = worker.should_terminate = None
