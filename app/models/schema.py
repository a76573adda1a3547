"""The schema, made by Alembic. A SQLite file gets its tables at its first use, a server by `alembic
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
    """Check once a process that the tables are of the newest version. On SQLite make them so."""
    key = (os.getpid(), engine.url.render_as_string(hide_password=False))
    if key in _seen:
        return
    if not is_newest(engine):
        if engine.dialect.name != "sqlite":
            raise SchemaError(
                "the application's tables are missing or of another version;"
                " run `alembic upgrade head`"
            )
        upgrade(engine)
    _seen.add(key)


def is_newest(engine: Engine) -> bool:
    with engine.connect().execution_options(
        **{AUTOCOMMIT: True}
    ) as connection:  # no write lock just to look
        return MigrationContext.configure(connection).get_current_revision() == _newest()


def upgrade(engine: Engine) -> None:
    """Bring the tables to the newest version. On SQLite it may run in several processes at the same
    time: the first one holds the write lock.
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
