"""`celery -A tasks pauses list`: what is paused, and until when."""

from __future__ import annotations

import click

from relevo.cli.broker import driver_of
from relevo.cli.output import json_option, moment, one_line_errors, show


@click.group("pauses")
def pauses() -> None:
    """What is paused. `queues pause` and `queues resume` begin and end it."""


@pauses.command("list")
@json_option
@click.pass_context
@one_line_errors
def list_pauses(context: click.Context, as_json: bool) -> None:
    """Every paused queue, how many jobs wait in it, and when its pause ends (nothing: when it is resumed)."""
    driver = driver_of(context)
    rows = [{"queue": queue, "pending": driver.sizes(queue).pending, "until": moment(until)}
            for queue, until in sorted(driver.paused().items())]  # fmt: skip
    show(rows, as_json, empty="Nothing is paused.")
