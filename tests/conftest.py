"""The fixtures of several folders: urls of servers, each broker in turn, apps, and a worker.

A server starts when the first test needs it and serves the whole session, with one database. A test
that needs a file of its own makes it in `tmp_path`.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import tempfile
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from celery import Celery, _state
from celery.app import builtins as _builtins  # noqa: F401  the tasks that every app has
from celery.contrib.testing.worker import start_worker
from kombu import Queue

from relevo import config
from relevo.app import App, create_app
from relevo.database import schema
from relevo.database.engine import engine_for
from relevo.drivers import driver_for
from relevo.store.store import Store, store_for
from tests.support import (
    batch_tasks,
    memory_app,
    no_fsync,  # noqa: F401  no fsync, in this process either
    servers,
    sqlite_tables,
)
from tests.support.brokers import BROKERS, Broker, opener
from tests.support.http_receiver import Receiver, receiving
from tests.support.waits import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from relevo.drivers.contract import Driver
    from tests.support import application

# Some machines tell Python to keep no compiled files. The tests start hundreds of processes, and
# compiling our modules again in each would take longer than anything else.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The slowest first.
SLOW = (
    "tests/flow/",
    "tests/tasks/test_dev",
    "test_live.py",
    "test_killed.py",
    "tests/faults/",
    "tests/tasks/",
    "tests/web/",
    "tests/properties/",
    "test_browser.py",
    "test_crash_points.py",
    "test_chord",
    "tests/drivers/redis/",
    "tests/transport/",
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
    """A file with the application's tables, to copy: Alembic takes a third of a second for them."""
    path = tmp_path_factory.mktemp("new") / "app.sqlite3"
    importlib.import_module("app.models.schema").upgrade(engine_for(f"sqlite:///{path}"))
    engine_for(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture(scope="session", autouse=True)
def _quick_tables() -> Iterator[None]:
    """New SQLite files get copies of Relevo's tables, unless a test is about the migrations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_upgrade", sqlite_tables.quickly)
        yield


@pytest.fixture(scope="session", params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    opened = Broker(request.param, opener(request.param, request))
    yield opened
    opened.close()


@pytest.fixture
def app() -> Celery:
    """An app on a broker in memory, unless a folder or a file defines its own."""
    return memory_app.make_app()


@pytest.fixture
def sqlite_app(tmp_path: Path) -> App:
    """An app whose broker and store are one SQLite file."""
    url = f"sqlite:///{tmp_path}/relevo.sqlite3"
    settings = config.load(
        {"QUEUE_CONNECTION": "database", "DATABASE_URL": url, "RELEVO_VAR_DIR": str(tmp_path)}, None
    )
    return create_app("shop", settings, result_backend="cache+memory://")


@pytest.fixture(params=["database", "redis"])
def batch_app(request, tmp_path):
    """An app with the tasks of tests/support/batch_tasks.py, its broker on SQLite or on Redis."""
    url = f"sqlite:///{tmp_path}/relevo.sqlite3"
    environ = {
        "QUEUE_CONNECTION": request.param,
        "DATABASE_URL": url,
        "RELEVO_VAR_DIR": str(tmp_path),
    }
    if request.param == "redis":
        environ["REDIS_URL"] = request.getfixturevalue("redis_url")
    app = create_app(
        "shop",
        config.load(environ, None),
        result_backend="cache+memory://",
        task_default_queue=f"batches-{tmp_path.name}",
    )
    batch_tasks.define_tasks(app)
    return app


@pytest.fixture
def calls() -> list[tuple]:
    """The calls that the tasks of tests/support/batch_tasks.py have noted."""
    batch_tasks.calls.clear()
    return batch_tasks.calls


@pytest.fixture
def store(app: App) -> Store:
    """The app's store."""
    return store_for(app.settings.database_url)


@pytest.fixture
def driver(app: App) -> Driver:
    """The app's driver."""
    return driver_for(app.conf.broker_url)


@pytest.fixture(params=["solo", "threads"])
def worker(app: App, request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager]:
    """A worker in a thread of this process, for as long as a block lasts."""

    @contextmanager
    def started():
        with start_worker(
            app, pool=request.param, concurrency=2, perform_ping_check=False, shutdown_timeout=LONG
        ) as worker:
            yield worker

    return started


@pytest.fixture
def app_with_queues() -> Celery:
    """An app that declares its queues."""
    return memory_app.make_app(
        task_queues=[Queue("default"), Queue("high")], task_default_queue="default"
    )


@pytest.fixture
def app_with_defaults() -> Callable[..., Celery]:
    """Make an app whose project has set tries and waits."""

    def make(tries: int, waits: tuple[float, ...] = ()) -> Celery:
        app = memory_app.make_app()
        app.settings = SimpleNamespace(queue_max_tries=tries, queue_backoff=waits)
        return app

    return make


@pytest.fixture
def sent(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SimpleNamespace]]:
    """The messages that the app would have published."""
    messages: list[SimpleNamespace] = []

    def send_task(name, args=None, kwargs=None, **options):
        messages.append(SimpleNamespace(name=name, args=args, kwargs=kwargs, **options))
        return app.AsyncResult(str(len(messages)))

    monkeypatch.setattr(app, "send_task", send_task)
    return messages


@pytest.fixture
def ram_path() -> Iterator[Path]:
    """A folder in memory if possible, for SQLite files that a program syncs."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="relevo-", dir=shared if shared.is_dir() else None
    ) as folder:
        yield Path(folder)


@pytest.fixture
def shop(
    ram_path: Path, new_database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[application.Shop]:
    """The application. Its jobs are recorded, and run when the test asks."""
    # Imported here: the application takes a second, and few tests need it.
    shop_in = importlib.import_module("tests.support.application").shop_in
    with shop_in(ram_path, new_database, monkeypatch) as opened:
        yield opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow tests first. At the end they would leave all but one test process idle."""
    items.sort(
        key=lambda item: (
            SLOW.index(found[0]) if (found := [s for s in SLOW if s in item.nodeid]) else len(SLOW)
        )
    )


def pytest_collection_finish() -> None:
    _forget_tasks()  # those of the modules that the collection has imported
    gc.collect()
    gc.freeze()  # or each full collection would look at all imported modules again


def _forget_tasks() -> None:
    """Celery gives the tasks of an app to all apps that are finalized later, of other tests too."""
    _state._on_app_finalizers.intersection_update(CELERYS_OWN)


@pytest.fixture(autouse=True)
def _own_state() -> Iterator[None]:
    yield
    _forget_tasks()
    if worker := sys.modules.get(
        "celery.worker.state"
    ):  # a worker in this process that was told to stop
        worker.should_stop = worker.should_terminate = None
