"""`celery -A tasks failed list|show|retry|forget|flush|prune`: jobs that have failed for good.

Such a job is in the store until it is forgotten or pruned, and runs again only if it is retried.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import click

from relevo import clock
from relevo.cli.context import store_of
from relevo.cli.message_fields import arguments_of
from relevo.cli.options import ROW, Duration, Hours, limit_option, which_jobs
from relevo.cli.output import (
    complain,
    confirm,
    json_option,
    moment,
    one_line_errors,
    say,
    show,
    show_one,
    some,
    yes_option,
)
from relevo.operations import retry
from relevo.store import failed as store_failed
from relevo.store.failed import EVERY_JOB, FailedJob, Filter
from relevo.store.store import Store

ALL = "all"
MOST_DIGITS = 18
MOST_IDS = 1000

_ids_argument = click.argument("which", nargs=-1, metavar="[ID…|all]")


@click.group("failed")
def failed() -> None:
    """Jobs that have failed for good."""


@failed.command("list")
@which_jobs
@click.option(
    "--since",
    type=Duration(),
    help="Only jobs that failed within the last 90 (seconds), 15m, 4h or 2d.",
)
@click.option(
    "--before", type=ROW, metavar="ID", help="Only jobs with a lower number: the next page."
)
@limit_option
@json_option
@click.pass_context
@one_line_errors
def list_failed(
    context: click.Context,
    queue: str | None,
    task: str | None,
    tag: str | None,
    since: float | None,
    before: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """The failed jobs that have not been retried, newest first."""
    store = store_of(context)
    which = Filter(queue, task, tag, since=None if since is None else clock.now() - since)
    jobs = store_failed.page(store, which, before=before, limit=limit)
    show([_row(job, as_json) for job in jobs], as_json, empty="No failed jobs.")
    if jobs and not as_json:
        older = store_failed.count(store, replace(which, newest=jobs[-1].id - 1))
        if older:
            complain(f"{older} more; the next page: --before {jobs[-1].id}")


def _row(job: FailedJob, as_json: bool) -> dict[str, Any]:
    row = {
        "id": job.id,
        "uuid": job.uuid,
        "task": job.task,
        "queue": job.queue,
        "attempts": job.attempts,
        "failed_at": moment(job.failed_at),
        "error": f"{job.exception}: {job.message}",
    }
    more = {
        "connection": job.connection,
        "tags": job.tags,
        "batch": job.batch,
        "origin": job.origin,
    }
    return {**row, **more} if as_json else row


@failed.command("show")
@click.argument("which", metavar="ID")
@json_option
@click.pass_context
@one_line_errors
def show_failed(context: click.Context, which: str, as_json: bool) -> None:
    """All about one failed job, with the traceback of every attempt. ID is its number or uuid.

    The JSON also has the job's complete message.
    """
    job = _find(store_of(context), which)
    if job is None:
        raise click.ClickException(f"there is no failed job {which}")
    errors = [{**error, "at": _moment_of(error)} for error in job.errors]
    fields: dict[str, Any] = {
        "id": job.id,
        "uuid": job.uuid,
        "task": job.task,
        "queue": job.queue,
        "arguments": arguments_of(context.obj.app, job.payload),
        "connection": job.connection,
        "tags": job.tags,
        "batch": job.batch,
        "failed_at": moment(job.failed_at),
        "error": f"{job.exception}: {job.message}",
        "attempts": job.attempts,
        "origin": job.origin or None,
        "retried_at": moment(job.retried_at),
    }
    lines = "\n".join(line for error in errors for line in _error_lines(error))
    show_one(
        {**fields, "errors": errors, "payload": job.payload}
        if as_json
        else {**fields, "errors": lines},
        as_json,
    )


def _moment_of(error: dict[str, Any]) -> str | None:
    """When an attempt failed. The value comes from the job's message, so it may be anything."""
    try:
        return moment(error.get("at"))
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _error_lines(error: dict[str, Any]) -> list[str]:
    text = f"{error.get('exception')}: {error.get('message')}"
    head = f"attempt {error.get('attempt')}, {error['at']}: {text}"
    return [head, *(f"  {line}" for line in str(error.get("traceback") or "").splitlines())]


@failed.command("retry")
@_ids_argument
@which_jobs
@json_option
@click.pass_context
@one_line_errors
def retry_jobs(
    context: click.Context,
    which: tuple[str, ...],
    queue: str | None,
    task: str | None,
    tag: str | None,
    as_json: bool,
) -> None:
    """Put failed jobs back into their queues, with a fresh count of attempts: by id, `all`, or by
    queue, task, tag.

    If two people retry a job at the same moment, it is put back once.
    """
    store = store_of(context)
    wanted, missing = _selected(store, which, Filter(queue, task, tag))
    sent = retry.retry_failed(context.obj.app, store, wanted) if wanted.ids != [] else 0
    say(f"{some(sent, 'job')} put back.", as_json, retried=sent, missing=missing)
    kept = len(wanted.ids or ()) - sent
    if kept > 0:
        complain(
            f"{some(kept, 'failed job')} not put back: retried just now,"
            " or another job has the unique key"
        )
    _exit_if_incomplete(missing, kept > 0)


@failed.command("forget")
@_ids_argument
@which_jobs
@yes_option
@json_option
@click.pass_context
@one_line_errors
def forget(
    context: click.Context,
    which: tuple[str, ...],
    queue: str | None,
    task: str | None,
    tag: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete failed jobs: by id, `all`, or by queue, task, tag."""
    store = store_of(context)
    wanted, missing = _selected(store, which, Filter(queue, task, tag), retried=True)
    count = store_failed.count(store, wanted) if wanted.ids is None else len(wanted.ids)
    if count:
        confirm(f"Delete {some(count, 'failed job')}?", yes)
    gone = store_failed.forget(store, wanted) if wanted.ids != [] else 0
    say(f"{some(gone, 'failed job')} deleted.", as_json, deleted=gone, missing=missing)
    _exit_if_incomplete(missing)


@failed.command("flush")
@click.option(
    "--hours", type=Hours(), default=0, help="Only jobs that failed this many hours ago or earlier."
)
@yes_option
@json_option
@click.pass_context
@one_line_errors
def flush(context: click.Context, hours: float, yes: bool, as_json: bool) -> None:
    """Delete all failed jobs, or the old ones."""
    store = store_of(context)
    older = f" that failed {hours:g} hours ago or earlier" if hours else ""
    unretried = store_failed.count(store)
    confirm(f"Delete every failed job{older}? ({unretried} have not been retried.)", yes)
    gone = store_failed.flush(store, hours)
    say(f"{some(gone, 'failed job')} deleted.", as_json, deleted=gone)


@failed.command("prune")
@click.option("--hours", type=Hours(), help="The age; default: RELEVO_KEEP_FAILED.")
@json_option
@click.pass_context
@one_line_errors
def prune(context: click.Context, hours: float | None, as_json: bool) -> None:
    """Delete old failed jobs, retried or not. For cron and beat: it asks no question."""
    store = store_of(context)
    keep = context.obj.app.settings.keep_failed if hours is None else hours * 3600
    gone = store_failed.prune(store, clock.now() - keep)
    say(f"{some(gone, 'failed job')} deleted.", as_json, deleted=gone)


def _selected(
    store: Store, ids: Iterable[str], which: Filter, *, retried: bool = False
) -> tuple[Filter, list[str]]:
    """The filter for the selected jobs, and the ids that no failed job has.

    A retried job counts only if `retried` is true. Raises UsageError.
    """
    named = list(dict.fromkeys(ids))
    if bool(named) == (which != EVERY_JOB) or (ALL in named and len(named) > 1):
        raise click.UsageError(
            "expected ids, or `all`, or one or more of --queue, --task and --tag"
        )
    if len(named) > MOST_IDS:
        raise click.UsageError(f"expected at most {MOST_IDS} ids at once, got {len(named)}")
    if not named or named == [ALL]:
        return which, []
    found = {each: _find(store, each) for each in named}
    jobs = {
        each: job
        for each, job in found.items()
        if job is not None and (retried or job.retried_at is None)
    }
    return Filter(ids=sorted({job.id for job in jobs.values()})), [
        each for each in named if each not in jobs
    ]


def _find(store: Store, which: str) -> FailedJob | None:
    """The failed job with this number, or the last failure of the job with this uuid."""
    if which.isascii() and which.isdigit() and len(which) <= MOST_DIGITS:
        return store_failed.find(store, int(which))
    return store_failed.find_by_uuid(store, which)


def _exit_if_incomplete(missing: list[str], kept: bool = False) -> None:
    """Name the missing jobs. Exit with code 1 if there are any, or if jobs were `kept`."""
    for each in missing:
        complain(f"there is no failed job {each}, or it was retried already")
    if missing or kept:
        raise click.exceptions.Exit(1)
