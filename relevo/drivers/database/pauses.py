"""Pauses of queues, suspensions of tasks and tags, and the jobs that are parked for these.

All are rows in tables, so that every worker obeys them, also one that starts later. Each function
runs inside a transaction of its caller.

A parked job is delayed to the end of its suspension, and a row of `relevo_parked` names it;
`unpark` finds it there. `park` holds the suspension's row locked, so that no job is parked for a
suspension that has just been lifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from relevo.drivers.contract import Lease
from relevo.drivers.database import fair_queue, leases
from relevo.drivers.database.statements import insert_if_new
from relevo.drivers.database.tables import jobs, parked
from relevo.drivers.database.tables import pauses as pauses_table
from relevo.drivers.database.tables import suspensions as suspensions_table
from relevo.drivers.values import UNTIL_LIFTED

# The most jobs that one transaction makes due; as many as in a batch of `jobs.py`.
BATCH = 1000

_RUNNING_PAUSES = select(pauses_table.c.queue, pauses_table.c.until).where(
    or_(pauses_table.c.until.is_(None), pauses_table.c.until > bindparam("now"))
)


# --- pauses of queues -----------------------------------------------------------------------------
def pause(connection: Connection, queue: str, until: float | None) -> None:
    if not insert_if_new(connection, pauses_table, {"queue": queue, "until": until}):
        this = pauses_table.c.queue == queue
        connection.execute(update(pauses_table).where(this).values(until=until))


def resume(connection: Connection, queue: str) -> None:
    connection.execute(delete(pauses_table).where(pauses_table.c.queue == queue))


def paused(connection: Connection, now: float) -> dict[str, float | None]:
    """The queues that are paused now, and the end of each pause (None: at `resume`)."""
    return {row.queue: row.until for row in connection.execute(_RUNNING_PAUSES, {"now": now})}


# --- suspensions of tasks and tags ----------------------------------------------------------------
def suspend(connection: Connection, target: str, until: float | None) -> None:
    if not insert_if_new(connection, suspensions_table, {"what": target, "until": until}):
        this = suspensions_table.c.what == target
        connection.execute(update(suspensions_table).where(this).values(until=until))


def end_suspension(connection: Connection, target: str, now: float) -> None:
    """Let no more jobs be parked for a suspension."""
    this = suspensions_table.c.what == target
    connection.execute(update(suspensions_table).where(this).values(until=now))


def forget_suspension(connection: Connection, target: str, now: float) -> None:
    """Delete a suspension that has ended. Call it when its jobs are due."""
    ended = and_(suspensions_table.c.what == target, suspensions_table.c.until <= now)
    connection.execute(delete(suspensions_table).where(ended))


def suspensions(connection: Connection) -> dict[str, float | None]:
    """All targets in the table, and the end of each suspension, which may have passed."""
    return {row.what: row.until for row in connection.execute(select(suspensions_table))}


# --- parked jobs ----------------------------------------------------------------------------------
def park(connection: Connection, held: Sequence[Lease], target: str, now: float) -> int:
    """Release jobs until the suspension of `target` ends. Returns how many were still held."""
    end = select(suspensions_table.c.until).where(suspensions_table.c.what == target)
    row = connection.execute(end.with_for_update()).first()
    if row is None or (row.until is not None and row.until <= now):
        return leases.release(connection, held, now, 0, None, None)
    until = UNTIL_LIFTED if row.until is None else row.until
    for chunk in leases.chunks(held):
        keys = [lease.key for lease in chunk]
        connection.execute(delete(parked).where(parked.c.job_key.in_(keys)))
        rows = [{"job_key": key, "what": target, "until": until} for key in keys]
        connection.execute(insert(parked), rows)
    changes = {
        **leases.FREE,
        "state": "delayed",
        "attempts": jobs.c.attempts - 1,
        "available_at": until,
    }
    return leases.release_changed(connection, held, changes)


def unpark(connection: Connection, target: str, keep: float | None, now: float) -> int:
    """Make the jobs due that are parked for `target`, except those parked until `keep`.

    Returns how many rows of `relevo_parked` were deleted: at most BATCH.
    """
    found = select(parked.c.job_key, parked.c.until).where(parked.c.what == target)
    if keep is not None:
        found = found.where(parked.c.until != keep)
    rows = connection.execute(found.order_by(parked.c.until).limit(BATCH)).all()
    for until, group in groupby(rows, key=lambda row: row.until):
        is_parked = and_(
            jobs.c.id.in_([row.job_key for row in group]),
            jobs.c.available_at == until,
            jobs.c.available_at > now,
        )
        # A job that is held by its id stays reserved; it is due when it is released.
        state = case((jobs.c.state == "reserved", "reserved"), else_=fair_queue.DUE)
        connection.execute(update(jobs).where(is_parked).values(state=state, available_at=now))
    if rows:
        keys = [row.job_key for row in rows]
        connection.execute(delete(parked).where(parked.c.job_key.in_(keys)))
    return len(rows)


def count_parked(connection: Connection, target: str) -> int:
    is_parked = and_(
        jobs.c.id == parked.c.job_key,
        jobs.c.available_at == parked.c.until,
        jobs.c.state == "delayed",
    )
    found = select(func.count()).select_from(parked.join(jobs, is_parked))
    return int(connection.execute(found.where(parked.c.what == target)).scalar_one())
