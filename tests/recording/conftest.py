"""Jobs recorded by a worker in this process, on SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from relevo.app import App


@pytest.fixture
def app(sqlite_app: App) -> App:
    return sqlite_app
