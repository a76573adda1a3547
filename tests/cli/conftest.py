"""An app on SQLite with a store, and its commands, called as from a shell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from relevo import config, drivers
from relevo.app import App, create_app
from relevo.store.store import store_for


@pytest.fixture
def app(tmp_path) -> App:
    url = f"sqlite:///{tmp_path}/relevo.sqlite3"
    settings = config.load(
        {"QUEUE_CONNECTION": "database", "DATABASE_URL": url, "RELEVO_VAR_DIR": str(tmp_path)}, None
    )
    return create_app("shop", settings, result_backend="cache+memory://")


@pytest.fixture
def store(app):
    return store_for(app.settings.database_url)


@pytest.fixture
def driver(app):
    return drivers.driver_for(app.conf.broker_url)


@pytest.fixture
def run(app):
    """Call a command of ours with these words."""

    def run(command, *words, typed=""):
        return CliRunner().invoke(
            command, [str(word) for word in words], obj=SimpleNamespace(app=app), input=typed
        )

    return run
