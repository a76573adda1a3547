"""Alembic's entry point: runs the migrations on the connection of `relevo.database.schema`."""

from __future__ import annotations

from alembic import context

from relevo.database.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
