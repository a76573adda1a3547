"""The engine's tables: made by the migrations in `relevo/migrations`, at first use (SQLite) or by command (servers)."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from relevo.drivers.database.table import metadata

SCRIPTS = Path(__file__).parents[2] / "migrations"
VERSION_TABLE = "relevo_version"


def create_schema(engine: Engine) -> None:
    """Bring the engine's tables to the newest version; what exists and is newest is left alone."""
    with engine.begin() as connection:
        _upgrade(connection)


def ensure_schema(engine: Engine) -> None:
    """Like `create_schema`, without a write when there is nothing to do: every process of a SQLite file calls it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if version(connection) == newest():
            return
    create_schema(engine)


def drop_schema(engine: Engine) -> None:
    """Drop the engine's tables, and the note of their version."""
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {VERSION_TABLE}")


def version(connection: Connection) -> str | None:
    """The version of the tables that are there, or None."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def newest() -> str | None:
    """The version that this code expects."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
