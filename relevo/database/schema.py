"""Creates and upgrades Relevo's tables, by the migrations in `relevo/database/migrations`.

A SQLite file gets its tables at first use, a server by the command `schema upgrade`. Alembic is
imported only when there is something to do, because it costs a third of a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.engine import URL

from relevo.database.server_options import AUTOCOMMIT
from relevo.errors import SchemaError

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).parent / "migrations"
#: The prefix of the names of all tables of Relevo.
PREFIX = "relevo_"
VERSION_TABLE = "relevo_version"

#: The version of the tables that this code expects: the newest migration (a test compares them).
NEWEST = "0018"

# Only one process migrates at a time. On SQLite its one write lock ensures that.
_LOCKS = {
    "postgresql": ("SELECT pg_advisory_lock(7305431)", "SELECT pg_advisory_unlock(7305431)"),
    "mysql": ("SELECT GET_LOCK('relevo_schema', 60)", "SELECT RELEASE_LOCK('relevo_schema')"),
}
_LOCKS["mariadb"] = _LOCKS["mysql"]

#: The SQLite files whose tables are known to be up to date.
_ready: set[URL] = set()
#: The connections that have upgraded a file in a transaction that may still be rolled back.
_upgraded: WeakSet[Connection] = WeakSet()


def create_schema(engine: Engine) -> None:
    """Bring the tables to the newest version. Up-to-date tables are left alone."""
    with _migration_lock(engine), engine.begin() as connection:
        if version(connection) != NEWEST:
            _upgrade(connection)


def ensure_schema(engine: Engine) -> None:
    """Like `create_schema`, but takes no lock when the tables are up to date.

    Every process that uses a SQLite file calls it.
    """
    with engine.connect().execution_options(**{AUTOCOMMIT: True}) as connection:
        if version(connection) == NEWEST:
            return
    create_schema(engine)


def ensure_schema_in(connection: Connection) -> None:
    """Like `ensure_schema`, in a running transaction.

    On SQLite that transaction holds the one write lock, so no other could make the tables. A
    server's tables are made by command.
    """
    if connection.dialect.name == "sqlite" and connection.engine.url not in _ready:
        if version(connection) != NEWEST:
            _upgraded.add(connection)
            _upgrade(connection)
        elif connection not in _upgraded:
            # The caller may roll its upgrade back, so the file is marked only when another
            # transaction sees it upgraded.
            _ready.add(connection.engine.url)


def drop_schema(engine: Engine) -> None:
    """Drop the tables, and the table that holds their version."""
    with engine.begin() as connection:
        for table in inspect(connection).get_table_names():
            if table.startswith(PREFIX):
                connection.exec_driver_sql(f"DROP TABLE {table}")


def version(connection: Connection) -> str | None:
    """Return the version of the existing tables, or None."""
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
    from alembic import command  # noqa: PLC0415  slow: see the module's docstring
    from alembic.util.exc import CommandError  # noqa: PLC0415

    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:  # the tables have a version that this code doesn't know
        found = version(connection)
        raise SchemaError(
            f"expected tables of version {NEWEST} or older, got version {found}: {error}"
        ) from error


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415  slow: see the module's docstring

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
