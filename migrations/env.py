"""Alembic's entry point for the application's tables: on the connection of the caller, or of
DATABASE_URL.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection

from app.models import Base
from app.settings import engine
from relevo.database.engine import engine_for


def is_ours(name: str | None, kind: str, parents: Any) -> bool:  # noqa: ARG001  Alembic's signature
    """Whether a table is the application's. The engine's tables may be in the same database."""
    return kind != "table" or name in Base.metadata.tables


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=is_ours,
        render_as_batch=True,  # SQLite can't change a column in place
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(url=engine().database_url, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif given := context.config.attributes.get("connection"):
    run(given)
else:
    with engine_for(engine().database_url).begin() as own:
        run(own)
