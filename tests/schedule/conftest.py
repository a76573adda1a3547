"""Beats in this process, on every database, with a clock that the test sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.clockwork import Clockwork

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def work(request, tmp_path) -> Iterator[Clockwork]:
    """An app and its beats on each database."""
    made = Clockwork(request.getfixturevalue(f"{request.param}_url"), tmp_path)
    made.empty()
    yield made
    made.empty()


@pytest.fixture
def small(sqlite_url, tmp_path) -> Iterator[Clockwork]:
    """An app and its beats on SQLite."""
    made = Clockwork(sqlite_url, tmp_path)
    made.empty()
    yield made
    made.empty()
