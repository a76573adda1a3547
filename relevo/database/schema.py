"""The engine's tables: made by the migrations in `relevo/migrations`, at first use (SQLite) or by
command (servers).

Alembic is imported only where there is something to do: it costs every process a third of a second
to start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL

from relevo.database.server_options import AUTOCOMMIT
from relevo.errors import SchemaError

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).parent / "migrations"
#: What the names of all our tables begin with.
PREFIX = "relevo_"
VERSION_TABLE = "relevo_version"

#: The version of the tables that this code expects: the newest of the migrations (a test compares
#: them).
NEWEST = "0015"

# Two who migrate at once take turns. SQLite's one write lock sees to that by itself.
_LOCKS = {
    "postgresql": ("SELECT pg_advisory_lock(7305431)", "SELECT pg_advisory_unlock(7305431)"),
    "mysql": ("SELECT GET_LOCK('relevo_schema', 60)", "SELECT RELEASE_LOCK('relevo_schema')"),
}
_LOCKS["mariadb"] = _LOCKS["mysql"]

#: The SQLite files whose tables were seen to be the newest.
_ready: set[URL] = set()


def create_schema(engine: Engine) -> None:
    """Bring the engine's tables to the newest version; what exists and is newest is left alone."""
    with _migration_lock(engine), engine.begin() as connection:
        if version(connection) != NEWEST:
            _upgrade(connection)


def ensure_schema(engine: Engine) -> None:
    """Like `create_schema`, but only looks when there is nothing to do: every process of a SQLite
    file calls it.
    """
    with engine.connect().execution_options(**{AUTOCOMMIT: True}) as connection:
        if version(connection) == NEWEST:
            return
    create_schema(engine)


def ensure_schema_in(connection: Connection) -> None:
    """Like `ensure_schema`, in a transaction that is under way: on SQLite it has the one write
    lock, so nobody else could make the tables. A server's are made by command.
    """
    if connection.dialect.name == "sqlite" and connection.engine.url not in _ready:
        if version(connection) == NEWEST:
            _ready.add(connection.engine.url)
        else:
            _upgrade(
                connection
            )  # undone with the transaction, so it counts as ready when it is seen the next time


def drop_schema(engine: Engine) -> None:
    """Drop the engine's tables, and the note of their version."""
    with engine.begin() as connection:
        for table in inspect(connection).get_table_names():
            if table.startswith(PREFIX):
                connection.exec_driver_sql(f"DROP TABLE {table}")


def version(connection: Connection) -> str | None:
    """The version of the tables that are there, or None."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(
        text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608  a constant
    ).scalar()
    return found


@contextlib.contextmanager
def _migration_lock(engine: Engine) -> Iterator[None]:
    if engine.dialect.name not in _LOCKS:
        yield
        return
    wait, end = _LOCKS[engine.dialect.name]
    with engine.connect().execution_options(**{AUTOCOMMIT: True}) as connection:
        connection.exec_driver_sql(wait)
        try:
            yield
        finally:
            connection.exec_driver_sql(end)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  see above
    from alembic.util.exc import CommandError  # noqa: PLC0415  see above

    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:  # it doesn't know the version it found
        found = version(connection)
        raise SchemaError(
            f"expected tables of version {NEWEST} or older, got version {found}: {error}"
        ) from error


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415  see above

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
