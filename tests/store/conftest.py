"""An empty store on each database, and a clock for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relevo import clock
from relevo.database.schema import create_schema
from relevo.store.store import Store
from relevo.store.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", params=["sqlite", "postgresql", "mariadb"])
def opened(request) -> Iterator[Store]:
    """One store for all tests: connecting and compiling statements takes longer than most tests."""
    store = Store(request.getfixturevalue(f"{request.param}_url"))
    store.administer(create_schema)
    yield store
    store.close()


@pytest.fixture(scope="module")
def emptied(opened) -> Store:
    """An empty store: tests of other folders share its database."""
    empty(opened)
    return opened


@pytest.fixture
def store(emptied) -> Iterator[Store]:
    yield emptied
    empty(emptied)


def empty(store: Store) -> None:
    store.write(
        lambda connection: [
            connection.execute(table.delete()) for table in metadata.tables.values()
        ]
    )


@pytest.fixture
def now(monkeypatch):
    """Set the clock."""

    def set_to(instant: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: instant)

    set_to(1_000_000.0)
    return set_to
