"""`celery -A tasks queues list|peek|pause|resume|clear|adopt|monitor`: the queues in the broker."""

from __future__ import annotations

from typing import Any

import click

from relevo.cli.context import driver_of
from relevo.cli.message_fields import task_of
from relevo.cli.monitor import monitor
from relevo.cli.options import Duration, limit_option
from relevo.cli.output import (
    confirm,
    json_option,
    moment,
    one_line_errors,
    say,
    show,
    some,
    yes_option,
)
from relevo.drivers.contract import Driver, JobView, State
from relevo.operations import clear


@click.group("queues")
def queues() -> None:
    """The queues in the broker."""


queues.add_command(monitor)


@queues.command("list")
@json_option
@click.pass_context
@one_line_errors
def list_queues(context: click.Context, as_json: bool) -> None:
    """Every queue: its jobs in each state, how long its oldest has waited, whether it is paused."""
    driver = driver_of(context)
    known = set(driver.queues()) | set(context.obj.app.amqp.queues) | set(driver.paused())
    show([_row(driver, queue) for queue in sorted(known)], as_json, empty="There are no queues.")


def _row(driver: Driver, queue: str) -> dict[str, Any]:
    sizes, pauses = driver.sizes(queue), driver.paused()
    return {
        "queue": queue,
        "pending": sizes.pending,
        "delayed": sizes.delayed,
        "reserved": sizes.reserved,
        "oldest": None if sizes.oldest is None else f"{sizes.oldest:.0f} s",
        "paused": _pause(pauses[queue]) if queue in pauses else None,
    }


def _pause(until: float | None) -> str:
    return "until resumed" if until is None else f"until {moment(until)}"


@queues.command("peek")
@click.argument("queue")
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    default=State.PENDING.value,
    show_default=True,
    help="Jobs in this state.",
)
@limit_option
@json_option
@click.pass_context
@one_line_errors
def peek(context: click.Context, queue: str, state: str, limit: int, as_json: bool) -> None:
    """The first jobs of a queue, in the order in which they will run. They stay in the queue."""
    jobs = driver_of(context).peek(queue, State(state), limit)
    rows = [_job(job, with_payload=as_json) for job in jobs]
    show(rows, as_json, empty=f"No job of queue {queue!r} is {state}.")


def _job(job: JobView, with_payload: bool) -> dict[str, Any]:
    row = {
        "id": job.id,
        "task": task_of(job.payload),
        "attempts": job.attempts,
        "priority": job.priority,
        "available_at": moment(job.available_at),
        "reserved_by": job.reserved_by,
    }
    return {**row, "payload": job.payload} if with_payload else row


@queues.command("pause")
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--for", "duration", type=Duration(), help="90, 15m, 4h or 2d; default: until resumed."
)
@click.pass_context
@one_line_errors
def pause(context: click.Context, names: tuple[str, ...], duration: float | None) -> None:
    """Let no worker take a job of these queues, also no worker that starts later. Running jobs go
    on.
    """
    driver = driver_of(context)
    until = None if duration is None else driver.now() + duration
    for queue in names:
        driver.pause(queue, until)
        click.echo(f"{queue}: paused {_pause(until)}.")


@queues.command("resume")
@click.argument("names", nargs=-1, required=True)
@click.pass_context
@one_line_errors
def resume(context: click.Context, names: tuple[str, ...]) -> None:
    """End the pause of these queues."""
    driver = driver_of(context)
    for queue in names:
        driver.resume(queue)
        click.echo(f"{queue}: resumed.")


@queues.command("clear")
@click.argument("names", nargs=-1, required=True)
@yes_option
@json_option
@click.pass_context
@one_line_errors
def clear_queues(context: click.Context, names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete the pending and delayed jobs of these queues. Running jobs go on. Batches count the
    deleted jobs as cancelled.
    """
    app, driver = context.obj.app, driver_of(context)
    waiting = {queue: (sizes := driver.sizes(queue)).pending + sizes.delayed for queue in names}
    confirm(f"Delete {some(sum(waiting.values()), 'job')} of {', '.join(names)}?", yes)
    deleted = {queue: clear.clear(app, driver, queue) for queue in dict.fromkeys(names)}
    say(
        "\n".join(f"{queue}: {some(count, 'job')} deleted." for queue, count in deleted.items()),
        as_json,
        **deleted,
    )


@queues.command("adopt")
@yes_option
@click.pass_context
@one_line_errors
def adopt(context: click.Context, yes: bool) -> None:
    """Take over jobs that stock Celery workers on this Redis held when they ended (kombu's
    `unacked` hash).
    """
    driver = driver_of(context)
    take_over = getattr(driver, "adopt_unacked", None)
    if take_over is None:
        raise click.UsageError(
            f"only a Redis can hold jobs of stock workers; this connection is {driver.name}"
        )
    confirm(
        "Are all stock Celery workers on this Redis stopped? Jobs that they still hold would run"
        " twice.",
        yes,
    )
    click.echo(f"{take_over()} jobs taken over.")
