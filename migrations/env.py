"""Alembic's entry for the application's tables, on a connection that is handed over or on that of
DATABASE_URL.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection

from app.models import Base
from app.settings import engine
from relevo.database.engine import engine_for


# - Alembic's signature
def of_the_application(name: str | None, kind: str, parents: Any) -> bool:  # noqa: ARG001
    """Leave the engine's tables, which may lie in the same database, alone."""
    return kind != "table" or name in Base.metadata.tables


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=of_the_application,
        render_as_batch=True,
    )  # SQLite can't change a column in place
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    context.configure(url=engine().database_url, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif handed_over := context.config.attributes.get("connection"):
    run(handed_over)
else:
    with engine_for(engine().database_url).begin() as own:
        run(own)
