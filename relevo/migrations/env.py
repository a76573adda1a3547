"""Alembic's entry: runs the engine's migrations on the connection that `drivers.database.schema` hands over."""

from __future__ import annotations

from alembic import context

from relevo.drivers.database.schema import VERSION_TABLE
from relevo.drivers.database.table import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
