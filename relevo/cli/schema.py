"""`celery -A tasks schema show|upgrade`: the engine's tables on the database driver."""

from __future__ import annotations

import click

from relevo.cli.broker import driver_of
from relevo.cli.output import one_line_errors
from relevo.drivers.contract import Driver


@click.group("schema")
def schema() -> None:
    """The tables of the database connection (Redis needs none)."""


@schema.command("upgrade")
@click.pass_context
@one_line_errors
def upgrade(context: click.Context) -> None:
    """Make the tables, or bring them to the version of this code. Safe to run again."""
    driver = driver_of(context)
    if (make := getattr(driver, "create_schema", None)) is None:
        click.echo(f"The {driver.name} driver has no tables.")
        return
    make()
    click.echo(f"The tables are at version {version(driver)}.")


@schema.command("show")
@click.pass_context
@one_line_errors
def show(context: click.Context) -> None:
    """Which version the tables have, and which this code expects. Exit code 1 when they differ."""
    from relevo.database.schema import NEWEST  # noqa: PLC0415  a database only

    driver = driver_of(context)
    if not hasattr(driver, "create_schema"):
        click.echo(f"The {driver.name} driver has no tables.")
        return
    found, expected = version(driver), NEWEST
    click.echo(f"tables: {found or 'none'}, code: {expected}")
    if found != expected:
        raise click.ClickException("run `celery -A tasks schema upgrade`")


def version(driver: Driver) -> str | None:
    """The version of the tables that are there, or None."""
    from relevo.database.schema import version as read  # noqa: PLC0415

    found: str | None = driver.connections.read(read)  # type: ignore[attr-defined]  # a database driver
    return found
