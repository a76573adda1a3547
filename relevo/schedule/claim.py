"""Claims the due ticks of an entry and dispatches their jobs, in one transaction of the store.

    lock the entry's row -> which ticks are due -> for each: write its run, dispatch its job
                         -> advance the entry -> commit

The job is written to the broker's table if that is in the store's database, and to the outbox
otherwise. A crash before the commit changes nothing; after the commit the job is there. So no tick
is lost or run twice, however many beats claim at the same time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from relevo import clock
from relevo.dispatch import connections
from relevo.dispatch.capture import capture
from relevo.dispatch.delivery import Delivery, outbox_entry
from relevo.drivers.database.dialects import DIALECTS
from relevo.drivers.database.server_clock import ServerClock
from relevo.errors import DriverError, OptionError
from relevo.job.membership import DUE_HEADER, ENTRY_HEADER
from relevo.schedule import descriptions
from relevo.schedule.entry import Entry
from relevo.store import batch_counts, schedules
from relevo.store.outbox import Sending
from relevo.store.schedules import EntryState, Run, RunEnd
from relevo.store.store import Store
from relevo.transport import put_results
from relevo.transport.put_results import PutResult

_JOBS = uuid.UUID("5b0f0e3c-6d2c-4f0e-9a53-6f1d6a2f8c11")


def clock_of(store: Store) -> Callable[[], float]:
    """Return the clock of all beats: that of the store's server, since their machines' differ."""
    if store.dialect == "sqlite":
        return lambda: clock.now()  # noqa: PLW0108  looked up at each call, because a test sets it
    return ServerClock(lambda: store.read(DIALECTS[store.dialect].server_time))


def run_due(delivery: Delivery, entry: Entry, now: float) -> tuple[EntryState | None, list[Run]]:
    """Dispatch the due ticks of an entry. Returns its state and the runs.

    The state is None while another beat has the entry. Raises DriverError, and any error of the
    entry itself.
    """
    arguments = entry.arguments()  # before the transaction: it may ask the same database

    asked: list[PutResult] = []

    def claim_ticks(connection: Connection) -> tuple[EntryState | None, list[Run]]:
        state = schedules.claim(connection, entry.name, descriptions.as_text(entry.schedule), now)
        if state is None or state.is_paused(now):
            return state, []
        due, passed = entry.rule.due(entry.ticks, state.done_until(now), now)
        found = (_run_of_tick(entry, tick, now) for tick in due)
        made = [run for run in found if schedules.record(connection, run)]
        sendings = [build_sending(entry, run, arguments) for run in made]
        asked[:] = [put_results.expect(run.job_id) for run in made]
        delivery.hand_in(connection, sendings)
        since = state.since if passed is None else passed
        since = now if since > now + schedules.AHEAD_SECONDS else since
        if since != state.since:
            schedules.advance(connection, entry.name, since)
        return EntryState(
            entry.name, state.schedule, since, state.paused_at, state.paused_until
        ), made

    state, made = delivery.store.write(claim_ticks)
    if made:
        delivery.after_commit(connection_of(entry))
        made = _cancel_unstarted(delivery.store, made, asked)
    return state, made


def run_now(delivery: Delivery, entry: Entry, by: str) -> Run:
    """Run an entry now, even if it is paused, beside its ticks. Returns the run.

    Raises DriverError or OptionError.
    """
    now, job_id = clock_of(delivery.store)(), str(uuid.uuid4())
    run = Run(entry.name, job_id, now, now, job_id, by)
    arguments = entry.arguments()
    asked: list[PutResult] = []

    def record_run(connection: Connection) -> None:
        schedules.record(connection, run)
        made = build_sending(entry, run, arguments)
        asked[:] = [put_results.expect(job_id)]
        delivery.hand_in(connection, [made])

    delivery.store.write(record_run)
    delivery.after_commit(connection_of(entry))
    return _cancel_unstarted(delivery.store, [run], asked)[0]


def _cancel_unstarted(store: Store, made: Sequence[Run], asked: Sequence[PutResult]) -> list[Run]:
    """Cancel the runs without a job: another job had their unique key. Returns all runs."""
    left = [
        run.job_id for run, receipt in zip(made, asked, strict=True) if receipt.holder is not None
    ]
    ends = [RunEnd(id_, batch_counts.CANCELLED, clock.now()) for id_ in left]
    if ends:
        with suppress(DriverError):  # the store is away: they are shown as not ended
            store.write(lambda connection: schedules.end_runs(connection, ends))
    return [
        replace(run, state=batch_counts.CANCELLED) if run.job_id in left else run for run in made
    ]


def connection_of(entry: Entry) -> str:
    """Return the name of the connection to which the entry's jobs go."""
    return str(entry.options.get("connection") or entry.app.settings.queue_connection)


def build_sending(
    entry: Entry, run: Run, arguments: tuple[Sequence[Any], dict[str, Any]]
) -> Sending:
    """Let Celery make the job of a run, but not send it.

    Raises OptionError, and any error that Celery finds.
    """
    app, args, kwargs = entry.app, *arguments
    if app.conf.task_always_eager:
        raise OptionError(
            "the connection 'sync' runs jobs at once and keeps no queue; set QUEUE_CONNECTION"
        )
    options = {name: value for name, value in entry.options.items() if name != "connection"}
    options["headers"] = {
        **(options.get("headers") or {}),
        "celery_beat_task": True,
        ENTRY_HEADER: entry.name,
        DUE_HEADER: run.due,
    }
    options["task_id"] = run.job_id
    task, name = app.tasks.get(entry.task), connection_of(entry)
    connection = connections.get_connection(app, name, entry.task)
    if task is not None and not connections.is_default(app, connection):
        queue = connections.resolve_queue(task, connection, args, kwargs, options)
        options |= {"queue": queue} if queue else {}
    with capture() as captured:
        if task is None:
            app.send_task(entry.task, args, kwargs, **options)
        else:
            task.apply_async(args, kwargs, **options)
        jobs = captured.pop_jobs()
    if len(jobs) != 1:
        raise OptionError(f"expected task {entry.task!r} to send one job, it has sent {len(jobs)}")
    return outbox_entry(jobs[0], name)


def _run_of_tick(entry: Entry, due: float, now: float) -> Run:
    """Return the run of a tick.

    The id of its job follows from the tick, so that a second dispatch is the same job.
    """
    tick = clock.utc(due).isoformat(timespec="milliseconds")
    return Run(
        entry.name, tick, due, now, str(uuid.uuid5(_JOBS, f"{entry.app.main} {entry.name} {tick}"))
    )
