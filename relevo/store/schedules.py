"""The schedule in the store: how far each entry is, whether it is paused, and its runs.

    sync_entries  a beat starts: new, changed and returned entries begin now
    claim         the state of an entry, locked until the transaction ends
    record        a run of a tick: the first beat writes it
    advance       the ticks up to an instant are done

The last three are steps of one transaction (relevo/schedule/claim.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, case, delete, exists, func, or_, select, update

from relevo.database import text, upserts
from relevo.store.history import PAGE
from relevo.store.store import Store
from relevo.store.tables import history, runs, schedules

# An entry that is further ahead of now than this begins anew: the clock was wrong and was set
# right.
AHEAD_SECONDS = 60.0
# It then begins so far back, so that no tick is left out. A tick that was run is not run again.
BACK_SECONDS = 60.0
# A beat that stands still or is cut off while it has an entry loses it after so many seconds.
STALLED_SECONDS = 20.0
_MOST_PAGES = 100


@dataclass(frozen=True, slots=True)
class EntryState:
    """How far an entry is. A pause without `paused_until` lasts until the entry is resumed."""

    entry: str
    schedule: str
    since: float
    paused_at: float | None = None
    paused_until: float | None = None
    gone_at: float | None = None

    def is_paused(self, now: float) -> bool:
        return self.paused_at is not None and (self.paused_until is None or self.paused_until > now)

    def done_until(self, now: float) -> float:
        """Return the instant up to which all ticks are done. Ticks in a pause are not run later."""
        if self.is_paused(now):
            return now
        if self.since > now + AHEAD_SECONDS:
            return now - BACK_SECONDS
        return max(
            self.since, (self.paused_until or 0.0) - 0.001 if self.paused_at is not None else 0.0
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A run of an entry: when it was due and dispatched, by whom (None: a beat), and its end."""

    entry: str
    tick: str
    due: float
    at: float
    job_id: str
    run_by: str | None = None
    state: str | None = None
    ended_at: float | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end of a run's job."""

    job_id: str
    state: str
    at: float


def read(store: Store) -> dict[str, EntryState]:
    """Return the state of every entry that a beat has seen or a person has paused."""
    rows = store.read(lambda connection: connection.execute(select(schedules)).all())
    return {row.entry: _state(row) for row in rows}


def sync_entries(store: Store, entries: Mapping[str, str], now: float) -> dict[str, EntryState]:
    """Compare the stored entries with a beat's own (name -> schedule as text).

    Returns the states of all stored entries.
    """
    _all = select(schedules).order_by(schedules.c.entry)

    def sync(connection: Connection) -> dict[str, EntryState]:
        states = {row.entry: _state(row) for row in connection.execute(_all.with_for_update())}
        for name, schedule in entries.items():
            known = states.get(name)
            if known is None:
                _add(connection, name, schedule, now)
            elif known.schedule != text.name(schedule) or known.gone_at is not None:
                _update(connection, name, schedule=text.name(schedule), since=now, gone_at=None)
        for name in states.keys() - entries.keys():
            if states[name].gone_at is None:
                _update(connection, name, gone_at=now)
        return {row.entry: _state(row) for row in connection.execute(_all)}

    return store.write(sync)


def lock(connection: Connection, name: str, schedule: str, now: float) -> EntryState:
    """Return the state of an entry, locked in the caller's transaction."""
    _add(connection, name, schedule, now)
    return _state(connection.execute(_select_entry(name).with_for_update()).one())


def claim(connection: Connection, name: str, schedule: str, now: float) -> EntryState | None:
    """Like `lock` without waiting: None while another beat has the entry.

    A beat that has it loses it after STALLED_SECONDS of silence.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"SET LOCAL idle_in_transaction_session_timeout = {STALLED_SECONDS * 1000:.0f}"
        )
    elif connection.dialect.name != "sqlite":
        # MySQL ends every silent connection, in a transaction or not; the pool makes new ones.
        limit = (
            "idle_transaction_timeout"
            if getattr(connection.dialect, "is_mariadb", False)
            else "wait_timeout"
        )
        connection.exec_driver_sql(f"SET SESSION {limit} = {STALLED_SECONDS:.0f}")
    mine = _select_entry(name).with_for_update(skip_locked=True)
    row = connection.execute(mine).first()
    if row is None and connection.execute(_select_entry(name)).first() is None:
        # The row was deleted while a beat runs; this tick isn't left out.
        _add(connection, name, schedule, now - BACK_SECONDS)
        row = connection.execute(mine).first()
    return None if row is None else _state(row)


def advance(connection: Connection, name: str, since: float) -> None:
    """Note that the ticks of an entry up to an instant are done."""
    _update(connection, name, since=since, gone_at=None)


def record(connection: Connection, run: Run) -> bool:
    """Write a run, in the caller's transaction. Returns False if its tick was run before."""
    row = {
        "entry": run.entry,
        "tick": run.tick,
        "due": run.due,
        "at": run.at,
        "job_id": run.job_id,
        "run_by": None if run.run_by is None else text.name(run.run_by),
    }
    return upserts.insert_if_absent(connection, runs, row)


def pause(store: Store, name: str, schedule: str, now: float, until: float | None) -> None:
    """Run no tick of an entry, until an instant or until it is resumed."""

    def write_pause(connection: Connection) -> None:
        lock(connection, name, schedule, now)
        _update(connection, name, paused_at=now, paused_until=until)

    store.write(write_pause)


def resume(store: Store, name: str, now: float) -> bool:
    """End a pause. Returns whether there was one."""
    mine = and_(schedules.c.entry == name, schedules.c.paused_at.is_not(None))
    over = and_(schedules.c.paused_until.is_not(None), schedules.c.paused_until <= now)

    def end_pause(connection: Connection) -> bool:
        unpaused = {"paused_at": None, "paused_until": None}
        ended = connection.execute(
            update(schedules).where(mine, ~over).values(since=now, **unpaused)
        ).rowcount
        return bool(ended)

    return store.write(end_pause)


def page(
    store: Store, name: str | None = None, *, before: int | None = None, limit: int = 50
) -> list[Run]:
    """Return runs of all entries or of one, newest first, with a number below `before`."""
    query = _runs_with_ends().order_by(runs.c.id.desc()).limit(limit)
    if name is not None:
        query = query.where(runs.c.entry == text.name(name))
    if before is not None:
        query = query.where(runs.c.id < before)
    return [_run(row) for row in store.read(lambda connection: connection.execute(query).all())]


def last_runs(store: Store) -> dict[str, Run]:
    """Return the latest run of each entry."""
    newest = select(func.max(runs.c.id)).group_by(runs.c.entry)
    found = store.read(
        lambda connection: connection.execute(_runs_with_ends().where(runs.c.id.in_(newest))).all()
    )
    return {row.entry: _run(row) for row in found}


def end_runs(connection: Connection, ends: Sequence[RunEnd]) -> None:
    """Record how the jobs of runs have ended, in the caller's transaction."""
    for end in sorted(ends, key=lambda each: each.job_id):
        mine = update(runs).where(runs.c.job_id == text.name(end.job_id))
        connection.execute(mine.values(state=end.state, ended_at=end.at))


def prune(store: Store, before: float) -> int:
    """Delete runs before an instant, but keep the last one of each entry. Returns how many.

    Entries that have been gone since before that instant are deleted, too.
    """
    here = exists().where(schedules.c.entry == runs.c.entry, schedules.c.gone_at.is_(None))
    later = runs.alias()
    is_last = ~exists().where(later.c.entry == runs.c.entry, later.c.id > runs.c.id)
    old = select(runs.c.id).where(runs.c.at < before, or_(~here, ~is_last)).limit(PAGE)
    count = 0
    for _ in range(_MOST_PAGES):
        numbers = store.read(lambda connection: list(connection.execute(old).scalars()))
        if numbers:
            _delete(store, numbers)
        count += len(numbers)
        if len(numbers) < PAGE:
            break
    store.write(lambda connection: _delete_gone(connection, before))
    return count


def _delete_gone(connection: Connection, before: float) -> None:
    """Delete the entries that have been gone for long, but none that another transaction has."""
    gone = select(schedules.c.entry).where(
        schedules.c.gone_at < before, schedules.c.paused_at.is_(None)
    )
    names = connection.execute(gone.with_for_update(skip_locked=True)).scalars().all()
    if names:
        connection.execute(delete(schedules).where(schedules.c.entry.in_(names)))


def _delete(store: Store, numbers: Sequence[int]) -> None:
    gone = delete(runs).where(runs.c.id.in_(numbers))
    store.write(lambda connection: connection.execute(gone))


def _runs_with_ends() -> Any:
    """Select runs with their ends, from the row or from history: the later end counts.

    History knows the end of a job that replaced the run's job, but doesn't keep every end.
    """
    columns = [each for each in runs.c if each.name not in {"state", "ended_at"}]
    is_later = or_(runs.c.ended_at.is_(None), history.c.ended_at > runs.c.ended_at)
    ends = [
        case((is_later, history.c[name]), else_=runs.c[name]).label(name)
        for name in ("state", "ended_at")
    ]
    return select(*columns, *ends).outerjoin(history, history.c.uuid == runs.c.job_id)


def _add(connection: Connection, name: str, schedule: str, now: float) -> None:
    row = {"entry": name, "schedule": text.name(schedule), "since": now}
    connection.execute(upserts.insert_or_ignore(connection.dialect.name, schedules), row)


def _select_entry(name: str) -> Any:
    return select(schedules).where(schedules.c.entry == name)


def _update(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(schedules).where(schedules.c.entry == name).values(**values))


def _state(row: Row[Any]) -> EntryState:
    return EntryState(**row._mapping)  # noqa: SLF001  the public name of a row's columns


def _run(row: Row[Any]) -> Run:
    return Run(**row._mapping)  # noqa: SLF001
