"""`celery -A tasks schema show|upgrade`: the tables of jobs and of their history."""

from __future__ import annotations

import click

from relevo.cli.context import driver_of
from relevo.cli.output import one_line_errors
from relevo.database.connections import Connections
from relevo.store.store import store_for


@click.group("schema")
def schema() -> None:
    """The tables of jobs (a broker on Redis has none) and of their history."""


@schema.command("upgrade")
@click.pass_context
@one_line_errors
def upgrade(context: click.Context) -> None:
    """Create the tables, or bring them to the version of this code. Safe to run again."""
    from relevo.database.schema import create_schema  # noqa: PLC0415  a database only

    for database in databases(context):
        database.administer(create_schema)
        click.echo(f"The tables are at version {version(database)}.")


@schema.command("show")
@click.pass_context
@one_line_errors
def show(context: click.Context) -> None:
    """The version of the tables, and the one that this code expects. Exit code 1 if they differ."""
    from relevo.database.schema import NEWEST  # noqa: PLC0415  a database only

    found = [version(database) for database in databases(context)]
    for each in found:
        click.echo(f"tables: {each or 'none'}, code: {NEWEST}")
    if any(each != NEWEST for each in found):
        raise click.ClickException("run `celery -A tasks schema upgrade`")


def databases(context: click.Context) -> list[Connections]:
    """The databases with Relevo's tables: the store's, and the broker's if it is a database."""
    settings = getattr(context.obj.app, "settings", None)
    if settings is not None and settings.connection.driver == "sync":
        return [store_for(settings.database_url)]
    driver = driver_of(context)
    brokers: list[Connections] = [driver.connections] if hasattr(driver, "connections") else []
    stores = [store_for(settings.database_url)] if settings is not None else []
    found = {database.url: database for database in [*stores, *brokers]}
    if not found:
        raise click.ClickException(f"The {driver.name} driver has no tables.")
    return list(found.values())


def version(database: Connections) -> str | None:
    """The version of the tables in a database; None if it has none."""
    from relevo.database.schema import version as read  # noqa: PLC0415

    found: str | None = database.read(read)
    return found
