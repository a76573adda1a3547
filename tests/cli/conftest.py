"""An app on SQLite with a store, and its commands, called as from a shell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from relevo.app import App


@pytest.fixture
def app(sqlite_app: App) -> App:
    return sqlite_app


@pytest.fixture
def run(app):
    """Call a command with these arguments."""

    def run(command, *words, typed=""):
        return CliRunner().invoke(
            command, [str(word) for word in words], obj=SimpleNamespace(app=app), input=typed
        )

    return run
