"""Suspensions, and the jobs that are parked for them. Each function runs inside a transaction of
its caller.

A parked job is delayed to the suspension's end, and `relevo_parked` says so in a row of its own:
`unpark` finds it by that. Who parks holds the suspension's row meanwhile, so that nothing is parked
for one that has just been lifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import Connection, and_, case, delete, func, insert, select, update

from relevo.drivers.contract import Lease
from relevo.drivers.database import fair_queue, leases
from relevo.drivers.database.statements import insert_if_new
from relevo.drivers.database.tables import jobs, parked, suspensions
from relevo.drivers.values import UNTIL_LIFTED

# The most that are made due in one transaction.
BATCH = 1000


def suspend(connection: Connection, what: str, until: float | None) -> None:
    if not insert_if_new(connection, suspensions, {"what": what, "until": until}):
        connection.execute(
            update(suspensions).where(suspensions.c.what == what).values(until=until)
        )


def end(connection: Connection, what: str, now: float) -> None:
    """Nothing more is parked for it from now on."""
    connection.execute(update(suspensions).where(suspensions.c.what == what).values(until=now))


def forget(connection: Connection, what: str, now: float) -> None:
    """One that has ended is over: its jobs are due."""
    connection.execute(
        delete(suspensions).where(suspensions.c.what == what, suspensions.c.until <= now)
    )


def every(connection: Connection) -> dict[str, float | None]:
    return {row.what: row.until for row in connection.execute(select(suspensions))}


def park(connection: Connection, held: Sequence[Lease], what: str, now: float) -> int:
    row = connection.execute(
        select(suspensions.c.until).where(suspensions.c.what == what).with_for_update()
    ).first()
    if row is None or (row.until is not None and row.until <= now):
        return leases.release(connection, held, now, 0, None, None)
    until = UNTIL_LIFTED if row.until is None else row.until
    for chunk in leases.chunks(held):
        connection.execute(
            delete(parked).where(parked.c.job_key.in_([lease.key for lease in chunk]))
        )
        connection.execute(
            insert(parked),
            [{"job_key": lease.key, "what": what, "until": until} for lease in chunk],
        )
    back = {
        **leases.FREE,
        "state": "delayed",
        "attempts": jobs.c.attempts - 1,
        "available_at": until,
    }
    return leases.release_changed(connection, held, back)


def unpark(connection: Connection, what: str, but: float | None, now: float) -> int:
    """Make jobs due that were parked, other than until the instant `but`. Returns how many rows (at
    most BATCH).
    """
    theirs = (
        select(parked.c.job_key, parked.c.until)
        .where(parked.c.what == what)
        .order_by(parked.c.until)
    )
    if but is not None:
        theirs = theirs.where(parked.c.until != but)
    rows = connection.execute(theirs.limit(BATCH)).all()
    for until, group in groupby(rows, key=lambda row: row.until):
        still = and_(jobs.c.id.in_([row.job_key for row in group]), jobs.c.available_at == until)
        due = update(jobs).where(still, jobs.c.available_at > now)
        # One that somebody holds by its id is due when it is let go.
        connection.execute(
            due.values(
                state=case((jobs.c.state == "reserved", "reserved"), else_=fair_queue.DUE),
                available_at=now,
            )
        )
    if rows:
        connection.execute(
            delete(parked).where(parked.c.job_key.in_([row.job_key for row in rows]))
        )
    return len(rows)


def count(connection: Connection, what: str) -> int:
    still = and_(
        jobs.c.id == parked.c.job_key,
        jobs.c.available_at == parked.c.until,
        jobs.c.state == "delayed",
    )
    return int(
        connection.execute(
            select(func.count()).select_from(parked.join(jobs, still)).where(parked.c.what == what)
        ).scalar_one()
    )
