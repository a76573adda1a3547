"""What people see of the schedule and do to it, for the command line and the dashboard alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from relevo.database import text
from relevo.dispatch.delivery import delivery_of
from relevo.drivers import DATABASES, REDIS, driver_for
from relevo.errors import DriverError
from relevo.schedule import claim, descriptions
from relevo.schedule import entry as entries
from relevo.schedule.catchup import LATE_SECONDS
from relevo.schedule.entry import Entry
from relevo.store import schedules
from relevo.store.schedules import EntryState, Run

#: The state of a job that has not ended, by its state in the broker.
JOB_STATES = {"pending": "pending", "delayed": "delayed", "reserved": "running"}


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry as it is now. `next` is when it is due, None for never or while it is paused.

    `known`: a beat has seen it. `overdue`: it was due, and no beat has run it.
    """

    entry: Entry
    next: float | None
    last: Run | None
    paused: bool
    paused_until: float | None
    known: bool
    overdue: bool


def views(app: Any) -> list[EntryView]:
    """Return the entries by name.

    Raises OptionError for a wrong entry, DriverError when the store is away.
    """
    store = delivery_of(app).store
    found, states, last, now = (
        entries.entries_of(app),
        schedules.read(store),
        schedules.last_runs(store),
        _now(app),
    )
    shown = [last[name] for name in found if name in last]
    runs = {run.entry: run for run in with_job_states(app, shown)}
    return [_view(found[name], states.get(name), runs.get(name), now) for name in sorted(found)]


def view(app: Any, name: str) -> EntryView:
    """Return one entry. Raises OptionError for an unknown name."""
    entries.find(app, name)
    return next(each for each in views(app) if each.entry.name == name)


def history(
    app: Any, name: str | None = None, *, before: int | None = None, limit: int = 50
) -> list[Run]:
    """Return runs, newest first, of all entries or of one, which may be gone."""
    return with_job_states(
        app, schedules.page(delivery_of(app).store, name, before=before, limit=limit)
    )


def with_job_states(app: Any, runs: Sequence[Run]) -> list[Run]:
    """Return the runs; a run whose job has not ended gets the job's state in the broker.

    In a broker without a driver of Relevo that state is unknown.
    """
    url = str(app.conf.broker_url)
    running = [run.job_id for run in runs if run.state is None]
    if not running or url.partition(":")[0].partition("+")[0] not in (*DATABASES, *REDIS):
        return list(runs)
    driver = driver_for(url, app.conf.broker_transport_options, app.conf.broker_use_ssl)
    try:
        states = {job.id: JOB_STATES[job.state] for job in driver.find(running)}
    except DriverError:  # the broker is away: the runs are shown without these states
        return list(runs)
    return [replace(run, state=run.state or states.get(run.job_id)) for run in runs]


def run(app: Any, name: str, by: str) -> Run:
    """Run an entry now. Raises OptionError, DriverError."""
    return claim.run_now(delivery_of(app), entries.find(app, name), by)


def describe_run(run: Run) -> str:
    """Say what became of a run that a person started."""
    if run.state is not None:
        return f"{run.entry!r} has not run: another job has its unique key."
    return f"{run.entry!r} runs as job {run.job_id}."


def pause(app: Any, name: str, seconds: float | None) -> float | None:
    """Pause an entry for so many seconds, or (None) until it is resumed. Returns the pause's end.

    Raises OptionError for an unknown name.
    """
    entry, now = entries.find(app, name), _now(app)
    until = None if seconds is None else now + seconds
    schedules.pause(delivery_of(app).store, name, descriptions.as_text(entry.schedule), now, until)
    return until


def resume(app: Any, name: str) -> bool:
    """End the pause of an entry. Returns whether there was one. Raises OptionError."""
    entries.find(app, name)
    return schedules.resume(delivery_of(app).store, name, _now(app))


def _now(app: Any) -> float:
    return claim.clock_of(delivery_of(app).store)()


def _view(entry: Entry, state: EntryState | None, last: Run | None, now: float) -> EntryView:
    state = state or EntryState(entry.name, "", now, gone_at=now)
    known = state.gone_at is None
    is_current = known and state.schedule == text.name(descriptions.as_text(entry.schedule))
    paused = state.is_paused(now)
    until = state.paused_until if paused else None
    since = state.done_until(now) if is_current else now
    at = entry.ticks.after(since if until is None else until - 0.001)
    upcoming = None if paused and until is None else at
    overdue = known and not paused and upcoming is not None and upcoming < now - LATE_SECONDS
    return EntryView(entry, upcoming, last, paused, until, known, overdue)
