"""`celery -A tasks jobs list|show|cancel|delete`: jobs in the broker, and jobs that have ended.

The first come from the driver, the others from the history in the store. Both are printed with the
same columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from relevo.cli.context import driver_of, store_of
from relevo.cli.job_selection import JobFilter, every_job, select
from relevo.cli.message_fields import arguments_of, baton_of, tags_of, task_of
from relevo.cli.options import limit_option, which_jobs
from relevo.cli.output import (
    complain,
    confirm,
    json_option,
    moment,
    one_line_errors,
    say,
    say_json,
    show,
    show_one,
    some,
    yes_option,
)
from relevo.drivers.contract import Driver, JobView, State
from relevo.operations import cancel
from relevo.store import failed as store_failed
from relevo.store import history
from relevo.store.history import Ended, EndedJob
from relevo.store.store import Store
from relevo.store.tables import history as history_table

IN_BROKER = (State.RESERVED, State.PENDING, State.DELAYED)
STATES = (*(state.value for state in IN_BROKER), *(state.value for state in Ended))


@click.group("jobs")
def jobs() -> None:
    """Jobs in the broker, and jobs that have ended."""


@jobs.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES),
    help="Only jobs in this state; may be repeated. Without it: all jobs in the broker.",
)
@which_jobs
@limit_option
@json_option
@click.pass_context
@one_line_errors
def list_jobs(
    context: click.Context,
    states: tuple[str, ...],
    queue: str | None,
    task: str | None,
    tag: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Jobs in the broker (reserved, pending, delayed), or jobs that have completed, failed or were
    cancelled.
    """
    which = JobFilter(queue, task, tag)
    shown = list(itertools.islice(_rows(context, states, which, limit), limit + 1))
    nothing = (
        "No such job."
        if states or which
        else "No job in the broker; --state completed shows completed jobs."
    )
    show(
        shown[:limit] if as_json else [_table_row(row) for row in shown[:limit]],
        as_json,
        empty=nothing,
    )
    if len(shown) > limit and not as_json:
        complain(f"There are more; --limit {limit * 10} shows more of them.")


def _rows(
    context: click.Context, states: tuple[str, ...], which: JobFilter, limit: int
) -> Iterator[dict[str, Any]]:
    """The rows of these states, one state after the other; the store is asked only if needed."""
    in_broker = [state for state in IN_BROKER if state in (states or IN_BROKER)]
    if in_broker:
        yield from _broker_rows(context.obj.app, driver_of(context), in_broker, which, limit)
    for state in Ended:
        if state.value in states:
            yield from _history_rows(store_of(context), state, which, limit)


def _broker_rows(
    app: Any, driver: Driver, states: Sequence[State], which: JobFilter, limit: int
) -> Iterator[dict[str, Any]]:
    if which.task is None and which.tag is None:
        queues = [which.queue] if which.queue is not None else driver.queues()
        found: Iterable[JobView] = (
            job
            for state in states
            for queue in queues
            for job in driver.peek(queue, state, limit + 1)
        )
    else:
        matching = (job for job in every_job(driver) if job.state in states and which.matches(job))
        first = itertools.islice(matching, limit + 1)
        found = sorted(
            first, key=lambda job: (states.index(job.state), job.queue, job.available_at)
        )
    return (_broker_row(app, job) for job in found)


def _broker_row(app: Any, job: JobView) -> dict[str, Any]:
    return {
        "id": job.id,
        "task": task_of(job.payload),
        "queue": job.queue,
        "state": job.state.value,
        "attempts": job.attempts,
        "at": moment(job.available_at),
        "arguments": arguments_of(app, job.payload),
        "tags": tags_of(job.payload),
        "connection": None,
        "message": None,
        "waited": None,
        "ran": None,
        "reserved_by": job.reserved_by,
    }


def _history_rows(
    store: Store, state: Ended, which: JobFilter, limit: int
) -> Iterator[dict[str, Any]]:
    columns = {history_table.c.queue: which.queue, history_table.c.task: which.task}
    also = [column == value for column, value in columns.items() if value is not None]
    return (
        _history_row(job)
        for job in history.page(store, state, tag=which.tag, limit=limit + 1, also=also)
    )


def _history_row(job: EndedJob) -> dict[str, Any]:
    return {
        "id": job.uuid,
        "task": job.task,
        "queue": job.queue,
        "state": job.state.value,
        "attempts": job.attempts,
        "at": moment(job.ended_at),
        "arguments": job.arguments,
        "tags": job.tags,
        "connection": job.connection,
        "message": job.message or None,
        "waited": job.waited,
        "ran": job.ran,
        "reserved_by": None,
    }


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that fit on a line; the others are only in the JSON."""
    return {
        name: row[name] for name in ("id", "task", "queue", "state", "attempts", "at", "arguments")
    }


@jobs.command("show")
@click.argument("id_", metavar="ID")
@json_option
@click.pass_context
@one_line_errors
def show_job(context: click.Context, id_: str, as_json: bool) -> None:
    """One job: in the broker, in the history, among the failed jobs."""
    living = [_details(context.obj.app, job, as_json) for job in driver_of(context).find([id_])]
    store = store_of(context)
    ended, failure = history.find(store, id_), store_failed.find_by_uuid(store, id_)
    if not living and ended is None and failure is None:
        raise click.ClickException(
            f"there is no job {id_}: it never existed, or the history no longer has it"
        )
    past = [] if ended is None else [{**asdict(ended), "ended_at": moment(ended.ended_at)}]
    number = None if failure is None else failure.id
    if as_json:
        say_json({"living": living, "ended": past[0] if past else None, "failed": number})
        return
    for fields in [*living, *past]:
        show_one(fields, as_json=False)
    if failure is not None:
        click.echo(f"It is failed job {number}: failed show {number}")


def _details(app: Any, job: JobView, as_json: bool) -> dict[str, Any]:
    baton = baton_of(job.payload)
    shown: dict[str, Any] = {
        **_broker_row(app, job),
        "priority": job.priority,
        "rescues": job.rescues,
        "created_at": moment(job.created_at),
        "reserved_until": moment(job.reserved_until),
        "deadline": moment(baton.deadline),
        "exceptions": baton.exceptions,
    }
    empty = ("connection", "message", "waited", "ran")
    fields = {name: value for name, value in shown.items() if name not in empty}
    return {**fields, "payload": job.payload} if as_json else fields


@jobs.command("cancel")
@click.argument("ids", nargs=-1, metavar="[ID…]")
@which_jobs
@click.option("--terminate", is_flag=True, help="Also kill the jobs that run.")
@yes_option
@json_option
@click.pass_context
@one_line_errors
def cancel_jobs(
    context: click.Context,
    ids: tuple[str, ...],
    queue: str | None,
    task: str | None,
    tag: str | None,
    terminate: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Cancel jobs: by id, or all in the broker by queue, task, tag.

    Jobs that wait are taken out of the broker and recorded as cancelled. A running attempt goes on,
    unless --terminate is given; the job is not tried again.
    """
    driver, store = driver_of(context), store_of(context)
    found, missing = select(driver, ids, JobFilter(queue, task, tag))
    if found:
        running = sum(job.state is State.RESERVED for job in found)
        confirm(f"Cancel {some(len(found), 'job')} ({running} of them reserved by a worker)?", yes)
    wanted = [job.id for job in found]
    done = cancel.cancel(context.obj.app, driver, store, wanted, terminate=terminate)
    say(
        _summary(done),
        as_json,
        withdrawn=_ids(done.withdrawn),
        killed=_ids(done.killed),
        running=_ids(done.running),
        missing=missing,
    )
    _exit_if_missing(missing)


def _summary(done: cancel.CancelResult) -> str:
    parts = [
        f"{some(len(done.withdrawn), 'job')} cancelled before they ran" if done.withdrawn else "",
        f"{some(len(done.killed), 'job')} killed" if done.killed else "",
        f"{some(len(done.running), 'job')} cancelled while running: this attempt is the last"
        if done.running
        else "",
    ]
    return "; ".join(filter(None, parts)) + "." if len(done) else "No job to cancel."


def _ids(jobs: list[JobView]) -> list[str]:
    return [job.id for job in jobs]


@jobs.command("delete")
@click.argument("ids", nargs=-1, metavar="[ID…]")
@which_jobs
@yes_option
@json_option
@click.pass_context
@one_line_errors
def delete_jobs(
    context: click.Context,
    ids: tuple[str, ...],
    queue: str | None,
    task: str | None,
    tag: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete jobs without a trace: by id, also from the history, or all in the broker by queue,
    task, tag.
    """
    driver, store = driver_of(context), store_of(context)
    found, missing = select(driver, ids, JobFilter(queue, task, tag))
    missing = [id_ for id_ in missing if history.find(store, id_) is None]
    wanted = [*(job.id for job in found), *(id_ for id_ in ids if id_ not in missing)]
    if wanted:
        confirm(f"Delete {some(len(set(wanted)), 'job')} without a trace?", yes)
    # Before the deletion: jobs that a crash leaves undeleted can be deleted again.
    cancel.count_as_cancelled(context.obj.app, store, found)
    gone, forgotten = driver.delete(wanted), history.forget(store, wanted)
    say(
        f"{gone} deleted from the broker, {forgotten} from the history.",
        as_json,
        broker=gone,
        history=forgotten,
        missing=missing,
    )
    _exit_if_missing(missing)


def _exit_if_missing(missing: list[str]) -> None:
    """Name the missing jobs and exit with code 1, if there are any."""
    for each in missing:
        complain(f"there is no job {each} in the broker")
    if missing:
        raise click.exceptions.Exit(1)
