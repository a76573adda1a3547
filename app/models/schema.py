"""The tables as Alembic makes them. A SQLite file gets them at its first use; a server by `alembic
upgrade head`.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from relevo.database.server_options import AUTOCOMMIT
from relevo.errors import SchemaError

SCRIPTS = Path(__file__).parents[2] / "migrations"

_seen: set[tuple[int, str]] = set()


def require(engine: Engine) -> None:
    """Look once per process whether the tables are there and new; make them so on SQLite."""
    key = (os.getpid(), engine.url.render_as_string(hide_password=False))
    if key in _seen:
        return
    if not is_newest(engine):
        if engine.dialect.name != "sqlite":
            raise SchemaError(
                "the application's tables are missing or of another version; run `alembic upgrade head`"
            )
        upgrade(engine)
    _seen.add(key)


def is_newest(engine: Engine) -> bool:
    with engine.connect().execution_options(
        **{AUTOCOMMIT: True}
    ) as connection:  # no write lock just to look
        return MigrationContext.configure(connection).get_current_revision() == _newest()


def upgrade(engine: Engine) -> None:
    """Bring the tables to the newest version; safe beside other processes on SQLite, whose lock the
    first one holds.
    """
    with engine.begin() as connection:
        command.upgrade(_config(connection), "head")


@functools.cache
def _newest() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
