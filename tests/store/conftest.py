"""The store on each database, empty, and a clock for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from relevo import clock
from relevo.database.schema import create_schema
from relevo.store.session import Store
from relevo.store.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def store(request) -> Iterator[Store]:
    store = Store(request.getfixturevalue(f"{request.param}_url"))
    store.administer(create_schema)
    yield store
    store.write(lambda connection: [connection.execute(table.delete()) for table in metadata.tables.values()])
    store.close()


@pytest.fixture
def now(monkeypatch):
    """Set what time it is."""

    def set_to(instant: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: instant)

    set_to(1_000_000.0)
    return set_to
