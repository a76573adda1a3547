"""`celery -A tasks batches list|show|cancel|retry|prune` and `outbox status`."""

from __future__ import annotations

from typing import Any

import click

from relevo import clock
from relevo.batches.batch import Batch, Batches
from relevo.cli.context import store_of
from relevo.cli.options import Hours, limit_option
from relevo.cli.output import (
    complain,
    confirm,
    json_option,
    moment,
    one_line_errors,
    say,
    show,
    show_one,
    yes_option,
)
from relevo.store import batches as store_batches
from relevo.store import outbox as store_outbox

HOUR = 3600.0


@click.group("batches")
def batches() -> None:
    """Batches, chains and chords."""


@batches.command("list")
@click.option("--before", metavar="ID", help="Only batches made before this one: the next page.")
@limit_option
@json_option
@click.pass_context
@one_line_errors
def list_batches(context: click.Context, before: str | None, limit: int, as_json: bool) -> None:
    """Batches, newest first."""
    edge = _find(context, before) if before else None
    found = Batches(_app(context)).page(before=edge, limit=limit)
    show([_row(batch, as_json) for batch in found], as_json, empty="No batches.")
    if len(found) == limit and not as_json:
        complain(f"there may be more; the next page: --before {found[-1].id}")


@batches.command("show")
@click.argument("batch_id", metavar="ID")
@json_option
@click.pass_context
@one_line_errors
def show_batch(context: click.Context, batch_id: str, as_json: bool) -> None:
    """All about one batch, with the first of its failed members."""
    batch = _find(context, batch_id)
    failed = store_batches.ended_members(store_of(context), batch.id, "failed")
    show_one({**_details(batch), "failed_members": [end.uuid for end in failed]}, as_json)


@batches.command("cancel")
@click.argument("batch_id", metavar="ID")
@yes_option
@json_option
@click.pass_context
@one_line_errors
def cancel(context: click.Context, batch_id: str, yes: bool, as_json: bool) -> None:
    """Cancel the members that have not started. Running members go on."""
    batch = _find(context, batch_id)
    if batch.finished:
        say(f"{batch.name!r} has finished: there is nothing to cancel.", as_json, **_details(batch))
        return
    confirm(
        f"Cancel {batch.name!r}, of which {batch.pending} of {batch.total} have not ended?", yes
    )
    batch.cancel()
    say(
        f"{batch.name!r} was cancelled: {batch.pending} have not ended yet.",
        as_json,
        **_details(batch),
    )


@batches.command("retry")
@click.argument("batch_id", metavar="ID")
@json_option
@click.pass_context
@one_line_errors
def retry(context: click.Context, batch_id: str, as_json: bool) -> None:
    """Retry the failed members. A member that then completes counts as completed."""
    retried = _find(context, batch_id).retry_failed()
    say(f"{retried} put back.", as_json, retried=retried)


@batches.command("prune")
@click.option(
    "--hours",
    type=Hours(),
    default=24.0,
    show_default=True,
    help="Batches that finished this many hours ago or earlier.",
)
@click.option(
    "--unfinished",
    type=Hours(),
    help="Also unfinished batches that began this many hours ago or earlier.",
)
@json_option
@click.pass_context
@one_line_errors
def prune(context: click.Context, hours: float, unfinished: float | None, as_json: bool) -> None:
    """Delete old batches, without a question."""
    now = clock.now()
    edge = None if unfinished is None else now - unfinished * HOUR
    deleted = Batches(_app(context)).prune(finished=now - hours * HOUR, unfinished=edge)
    say(f"{deleted} deleted.", as_json, deleted=deleted)


@click.group("outbox")
def outbox() -> None:
    """Jobs that were committed to the database and wait for their broker."""


@outbox.command("status")
@json_option
@click.pass_context
@one_line_errors
def status(context: click.Context, as_json: bool) -> None:
    """How many jobs wait for each connection, and since when."""
    now = clock.now()
    rows = [
        {
            "connection": each.connection,
            "jobs": each.jobs,
            "since": moment(each.since),
            "seconds": round(max(now - each.since, 0)),
        }
        for each in store_outbox.status(store_of(context))
    ]
    show(rows, as_json, empty="Nothing waits.")


def _find(context: click.Context, batch_id: str) -> Batch:
    store_of(context)  # Raises an error that names the cause, if the app has no store.
    batch = Batches(_app(context)).find(batch_id)
    if batch is None:
        raise click.ClickException(f"there is no batch {batch_id}")
    return batch


def _app(context: click.Context) -> Any:
    return context.obj.app


def _row(batch: Batch, as_json: bool) -> dict[str, Any]:
    if as_json:
        return _details(batch)
    state = "cancelled" if batch.cancelled else "finished" if batch.finished else "running"
    return {
        "id": batch.id,
        "name": batch.name,
        "kind": batch.kind,
        "state": state,
        "total": batch.total,
        "pending": batch.pending,
        "failed": batch.failed,
        "percent": batch.percent,
        "created_at": moment(batch.created_at),
    }


def _details(batch: Batch) -> dict[str, Any]:
    """Every field of the batch, its times as text."""
    return {
        name: moment(value) if name.endswith("_at") and value else value
        for name, value in batch.as_dict().items()
    }
