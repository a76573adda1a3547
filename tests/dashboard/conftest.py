"""A dashboard in this process, with a broker and a store of its own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from relevo.database.schema import create_schema
from relevo.store.store import Store
from tests.support.dashboard_site import PASSWORDS, Site, make_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """A SQLite file with Relevo's tables, to copy: creating them takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "shop.db"
    store = Store(f"sqlite:///{path}")
    store.administer(create_schema)
    store.write(lambda connection: connection.exec_driver_sql("DELETE FROM relevo_audit"))
    store.close()
    return path


@pytest.fixture
def app(tmp_path, empty_store) -> Any:
    """An app on a SQLite file."""
    for part in empty_store.parent.glob("shop.db*"):
        shutil.copy(part, tmp_path)
    made = make_app(f"sqlite:///{tmp_path}/shop.db", tmp_path)

    @made.task(name="images.process", shared=False)
    def process(number, size=None):
        """Do nothing: the job is only queued."""

    return made


@pytest.fixture
def site(app) -> Iterator[Site]:
    """The app's dashboard, with two passwords, and Ann logged in."""
    opened = Site(app, basic_auth=PASSWORDS).log_in(PASSWORDS[0])
    yield opened
    opened.close()


@pytest.fixture
def source(site) -> Any:
    return site.dashboard.source
