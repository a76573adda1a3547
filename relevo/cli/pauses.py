"""`celery -A tasks pauses list|add|lift`: pauses of queues, tasks and tags, and when they end."""

from __future__ import annotations

from typing import Any

import click

from relevo.cli.context import driver_of
from relevo.cli.options import Duration
from relevo.cli.output import json_option, moment, one_line_errors, show
from relevo.drivers.contract import Driver
from relevo.errors import OptionError
from relevo.operations import pauses as job_pauses
from relevo.operations.pauses import KINDS, QUEUE


@click.group("pauses")
def pauses() -> None:
    """Pauses of queues, tasks and tags."""


@pauses.command("list")
@json_option
@click.pass_context
@one_line_errors
def list_pauses(context: click.Context, as_json: bool) -> None:
    """Every pause, how many jobs wait for its end, and when it ends (empty: when it is lifted).

    For a task or a tag, only jobs that a worker has found and parked are counted.
    """
    show(rows(driver_of(context)), as_json, empty="Nothing is paused.")


def rows(driver: Driver) -> list[dict[str, Any]]:
    """A row for each pause, queues first."""
    queues = [
        {
            "kind": QUEUE,
            "name": queue,
            "waiting": driver.sizes(queue).pending,
            "until": moment(until),
        }
        for queue, until in sorted(driver.paused().items())
    ]
    others = [
        {
            **dict(zip(("kind", "name"), key.split(":", 1), strict=True)),
            "waiting": driver.parked(key),
            "until": moment(until),
        }
        for key, until in sorted(driver.suspended().items())
    ]
    return queues + others


@pauses.command("add")
@click.argument("names", nargs=-1, required=True, metavar="KIND:NAME...")
@click.option(
    "--for", "duration", type=Duration(), help="90, 15m, 4h or 2d; default: until lifted."
)
@click.pass_context
@one_line_errors
def add(context: click.Context, names: tuple[str, ...], duration: float | None) -> None:
    """Let no worker start a job of these queues, tasks or tags (`queue:low`, `task:emails.send`,
    `tag:user:7`). Running jobs go on.
    """
    driver = driver_of(context)
    targets = [_split(name) for name in names]
    for kind, name in targets:
        job_pauses.check(context.obj.app, kind, name)
    until = None if duration is None else driver.now() + duration
    end = "lifted" if until is None else moment(until)
    for kind, name in targets:
        job_pauses.add(driver, kind, name, until)
        click.echo(f"{kind} {name}: paused until {end}.")


@pauses.command("lift")
@click.argument("names", nargs=-1, required=True, metavar="KIND:NAME...")
@click.pass_context
@one_line_errors
def lift(context: click.Context, names: tuple[str, ...]) -> None:
    """End pauses: the jobs that were held back may run."""
    driver = driver_of(context)
    for kind, name in [_split(name) for name in names]:
        job_pauses.lift(driver, kind, name)
        click.echo(f"{kind} {name}: goes on.")


def _split(given: str) -> tuple[str, str]:
    kind, _, name = given.partition(":")
    if kind not in KINDS or not name:
        raise OptionError(f"expected queue:NAME, task:NAME or tag:TEXT, got {given!r:.80}")
    return kind, name
