"""`celery -A tasks queues monitor`: is a queue too full, or does its oldest job wait too long?

For cron and monitoring programs: the exit code is 1 if a queue is over a threshold. Listeners of
`queue_busy` (`@relevo.on("queue_busy")`) are called in this process, once for each such queue.
"""

from __future__ import annotations

import re
from typing import Any

import click

from relevo import events
from relevo.cli.context import driver_of
from relevo.cli.options import Duration
from relevo.cli.output import complain, json_option, one_line_errors, show, some
from relevo.drivers.contract import Driver
from relevo.events import Event, QueueEvent

OK, BUSY = "ok", "busy"
# Laravel's default.
MOST_PENDING = 1000
_NUMBER = re.compile(r"[0-9]{1,12}")


class Threshold(click.ParamType[tuple[str, int | None]]):
    """`default`, or `default:50`: a queue, and how many pending jobs it may have."""

    name = "queue"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | None]:
        if isinstance(value, tuple):
            return value
        name, colon, most = str(value).rpartition(":")
        if not colon:
            return most, None
        if not name or not _NUMBER.fullmatch(most):
            self.fail(f"expected QUEUE or QUEUE:MAX, such as default:50, got {value!r}", param, ctx)
        return name, int(most)


@click.command("monitor")
@click.argument("thresholds", nargs=-1, type=Threshold(), metavar="[QUEUE[:MAX]…]")
@click.option(
    "--max",
    "most",
    type=click.IntRange(0),
    default=MOST_PENDING,
    show_default=True,
    help="The most pending jobs.",
)
@click.option(
    "--longest",
    type=Duration(),
    help="The longest wait of the oldest job: 90 (seconds), 15m, 4h, 2d.",
)
@json_option
@click.pass_context
@one_line_errors
def monitor(
    context: click.Context,
    thresholds: tuple[tuple[str, int | None], ...],
    most: int,
    longest: float | None,
    as_json: bool,
) -> None:
    """Exit code 1 if a queue has too many pending jobs, or if its oldest job has waited too long.

    Without a QUEUE: all of them. Listeners of `queue_busy` are called for each queue over a
    threshold.
    """
    driver, app = driver_of(context), context.obj.app
    asked = dict(thresholds) or dict.fromkeys(sorted({*driver.queues(), *app.amqp.queues}))
    rows = [
        _row(driver, queue, most if limit is None else limit, longest)
        for queue, limit in asked.items()
    ]
    show(rows, as_json, empty="There are no queues.")
    busy = [row for row in rows if row["state"] == BUSY]
    if busy:
        app.loader.import_default_modules()  # they register the listeners
        for row in busy:
            waited, limit = row["oldest"], row["max"]
            events.emit(
                QueueEvent(Event.QUEUE_BUSY, row["queue"], row["pending"], waited, limit, longest)
            )
        names = ", ".join(row["queue"] for row in busy)
        complain(f"{some(len(busy), 'queue')} over the threshold: {names}")
        raise click.exceptions.Exit(1)


def _row(driver: Driver, queue: str, most: int, longest: float | None) -> dict[str, Any]:
    sizes = driver.sizes(queue)
    late = longest is not None and sizes.oldest is not None and sizes.oldest > longest
    return {
        "queue": queue,
        "pending": sizes.pending,
        "max": most,
        "delayed": sizes.delayed,
        "reserved": sizes.reserved,
        "oldest": None if sizes.oldest is None else round(sizes.oldest, 1),
        "paused": queue in driver.paused(),
        "state": BUSY if late or sizes.pending > most else OK,
    }
