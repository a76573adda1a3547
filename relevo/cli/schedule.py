"""`celery -A tasks schedule list|history|run|pause|resume`: the entries of beat_schedule."""

from __future__ import annotations

import getpass
from typing import Any

import click

from relevo.cli.context import driver_of, store_of
from relevo.cli.options import ROW, Duration, limit_option
from relevo.cli.output import complain, json_option, moment, one_line_errors, say, show
from relevo.schedule import entry, operations
from relevo.schedule.operations import EntryView
from relevo.store import audit
from relevo.store.schedules import Run

_ENTRY = click.argument("name", metavar="ENTRY")


@click.group("schedule")
def schedule() -> None:
    """The entries of beat_schedule."""


@schedule.command("list")
@json_option
@click.pass_context
@one_line_errors
def list_entries(context: click.Context, as_json: bool) -> None:
    """The entries of beat_schedule: when each is due, and how its last run went."""
    found = operations.views(_app(context))
    rows = [_details(view) if as_json else _row(view) for view in found]
    show(rows, as_json, empty="beat_schedule has no entry.")
    if any(view.overdue for view in found) and not as_json:
        complain("Some are overdue: does a beat run? celery -A … beat")


@schedule.command("history")
@click.argument("name", metavar="[ENTRY]", required=False)
@click.option("--before", type=ROW, metavar="ID", help="Only runs before this one: the next page.")
@limit_option
@json_option
@click.pass_context
@one_line_errors
def history(
    context: click.Context, name: str | None, before: int | None, limit: int, as_json: bool
) -> None:
    """Runs, newest first, of all entries or of one, which may have been removed."""
    found = operations.history(_app(context), name, before=before, limit=limit)
    show([_run(run) for run in found], as_json, empty="No runs.")
    if len(found) == limit and not as_json:
        complain(f"there may be more; the next page: --before {found[-1].id}")


@schedule.command("run")
@_ENTRY
@json_option
@click.pass_context
@one_line_errors
def run(context: click.Context, name: str, as_json: bool) -> None:
    """Run an entry now, once, even if it is paused. Its next run keeps its time."""
    app, number = _begin_action(context, "run entry", name)
    made = operations.run(app, name, _who())
    audit.complete(
        store_of(context),
        number,
        f"job {made.job_id}" if made.state is None else operations.describe_run(made),
    )
    say(operations.describe_run(made), as_json, **_run(made))


@schedule.command("pause")
@_ENTRY
@click.option(
    "--for",
    "seconds",
    type=Duration(),
    help="90s, 15m, 4h or 2d; default: until it is resumed.",
)
@json_option
@click.pass_context
@one_line_errors
def pause(context: click.Context, name: str, seconds: float | None, as_json: bool) -> None:
    """Pause an entry. Runs that would fall into the pause are not made up for."""
    app, number = _begin_action(context, "pause entry", name)
    until = moment(operations.pause(app, name, seconds))
    said = f"until {until}" if until else "until it is resumed"
    audit.complete(store_of(context), number, f"paused {said}")
    say(f"{name!r} is paused {said}.", as_json, entry=name, paused=True, until=until)


@schedule.command("resume")
@_ENTRY
@json_option
@click.pass_context
@one_line_errors
def resume(context: click.Context, name: str, as_json: bool) -> None:
    """End the pause of an entry."""
    app, number = _begin_action(context, "resume entry", name)
    was_paused = operations.resume(app, name)
    said = "goes on" if was_paused else "was not paused"
    audit.complete(store_of(context), number, said)
    say(f"{name!r} {said}.", as_json, entry=name, paused=False, was_paused=was_paused)


def _app(context: click.Context) -> Any:
    """The app, with its tasks imported: entries are checked against them, as in beat."""
    store_of(context)
    driver_of(context)
    app = context.obj.app
    app.loader.import_default_modules()
    return app


def _begin_action(context: click.Context, action: str, name: str) -> tuple[Any, int]:
    """Write the action into the audit log. Return the app and the number of the log's row."""
    app = _app(context)
    entry.find(app, name)
    done = audit.AuditEntry(who=f"{_who()} (command line)", action=action, target=name)
    return app, audit.record(store_of(context), done)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have no name
        return "?"


def _row(view: EntryView) -> dict[str, Any]:
    last, until = view.last, f"paused until {moment(view.paused_until) or 'it is resumed'}"
    return {
        "entry": view.entry.name,
        "task": view.entry.task,
        "schedule": view.entry.description,
        "queue": view.entry.queue,
        "next": until
        if view.paused
        else f"{moment(view.next) or 'never'}{' (overdue)' if view.overdue else ''}",
        "last": moment(last.at) if last else None,
        "state": last.state if last else None,
    }


def _details(view: EntryView) -> dict[str, Any]:
    return {
        "entry": view.entry.name,
        "task": view.entry.task,
        "schedule": view.entry.description,
        "queue": view.entry.queue,
        "catch_up": view.entry.rule.rule.value,
        "next": moment(view.next),
        "overdue": view.overdue,
        "paused": view.paused,
        "paused_until": moment(view.paused_until),
        "last": _run(view.last) if view.last else None,
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "entry": run.entry,
        "due": moment(run.due),
        "dispatched": moment(run.at),
        "job": run.job_id,
        "by": run.run_by or "beat",
        "state": run.state,
        "ended": moment(run.ended_at),
    }
