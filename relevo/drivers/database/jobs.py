"""The verbs of the contract that change the `relevo_jobs` table, except those of a lease's holder.

`leases.py` has the holder's verbs (ack, extend, release, unlock), `queries.py` the read-only ones.
Each function runs inside a transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, and_, bindparam, insert, select, text, update

from relevo.database.deletes import delete_by_id
from relevo.drivers.contract import Conflict, HeldJob, Lease, NewJob, Placed, ReservedJob
from relevo.drivers.database import fair_queue
from relevo.drivers.database.dialects import DIALECTS, Claim, Dialect
from relevo.drivers.database.leases import FREE, chunks, unleased_state
from relevo.drivers.database.queries import state_of, view
from relevo.drivers.database.statements import insert_if_new, statement
from relevo.drivers.database.tables import jobs

# The most jobs that one transaction moves or deletes, so that none locks the table for long.
BATCH = 1000
# The most jobs that one statement inserts: PostgreSQL's JSON text is sent whole.
MAX_INSERTED = 5000

# Taken by a put of several unique jobs, in a transaction of the driver's own. Two batches with the
# same keys in different orders would deadlock, which PostgreSQL notices after a second. (MySQL
# notices at once, and the step is begun again; SQLite has one writer.)
_LOCK_UNIQUE_KEYS = text("SELECT pg_advisory_xact_lock(7305432)")

_HOLD = (
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(
        state="reserved",
        token=bindparam("given"),
        reserved_until=bindparam("until"),
        reserved_by=bindparam("by"),
    )
)

_HASTEN = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("job"),
        jobs.c.state == "delayed",
        jobs.c.available_at > bindparam("now"),
    )
    .values(state=fair_queue.DUE, available_at=bindparam("now"))
    # MariaDB would read the delayed jobs, and the row behind the last one.
    .with_hint("FORCE INDEX (PRIMARY)", dialect_name="mysql")
    .with_hint("FORCE INDEX (PRIMARY)", dialect_name="mariadb")
)


def put(connection: Connection, new: Sequence[NewJob], now: float) -> list[Placed]:
    """Insert jobs; `Conflict` decides where a living job has the unique key of a new one.

    In a transaction of the driver's own, which ends at once: it may lock what workers need.
    """
    if any(job.unique_key is not None for job in new):
        return _put_unique(connection, new, now)
    if any(job.fair_key is not None for job in new):
        for part in chunks(new, MAX_INSERTED):
            rows = _fair_rows(part, now)
            fair_queue.assign_turns(connection, rows)
            connection.execute(insert(jobs), rows)
    else:
        _insert(connection, new, now)
    return [Placed(job.id, created=True) for job in new]


def hand_in(connection: Connection, new: Sequence[NewJob], now: float) -> list[Placed]:
    """Insert jobs without a unique key, in a transaction that may stay open: a session's, say.

    It locks nothing that a worker needs. So a job with a fair key is only delayed, and due: the
    reservation that stages it gives it its turn.
    """
    fair = [job for job in new if job.fair_key is not None]
    if fair:
        for part in chunks(new, MAX_INSERTED):
            connection.execute(insert(jobs), [_staged_later(row) for row in _fair_rows(part, now)])
    else:
        _insert(connection, new, now)
    return [Placed(job.id, created=True) for job in new]


def _insert(connection: Connection, new: Sequence[NewJob], now: float) -> None:
    dialect = DIALECTS[connection.dialect.name]
    for part in chunks(new, MAX_INSERTED):
        dialect.insert(connection, [_row(job, now) for job in part])


def _fair_rows(new: Sequence[NewJob], now: float) -> list[dict[str, Any]]:
    rows = [_row(job, now) for job in new]
    return [{"fair_since": None, **row, "fair_key": row.get("fair_key")} for row in rows]


def _staged_later(row: dict[str, Any]) -> dict[str, Any]:
    return row if row.get("fair_key") is None else {**row, "state": "delayed"}


def _put_unique(connection: Connection, new: Sequence[NewJob], now: float) -> list[Placed]:
    # One by one: row ids are the order of the queue, so the jobs can't be sorted by their keys.
    if len(new) > 1 and connection.dialect.name == "postgresql":
        connection.execute(_LOCK_UNIQUE_KEYS)
    placed = [_put_one(connection, job, now) for job in new]
    # The turns last: an insert may wait for the end of another job of its key, and turns that were
    # locked meanwhile would be missed by others.
    if fair := [job.id for job in new if job.fair_key is not None]:
        _give_turns(connection, fair, now)
    return placed


def _give_turns(connection: Connection, ids: Sequence[str], now: float) -> None:
    columns = (jobs.c.id, jobs.c.queue, jobs.c.priority, jobs.c.available_at, jobs.c.fair_key)
    for part in chunks(ids):
        due = and_(jobs.c.state == "delayed", jobs.c.available_at <= now)
        mine = select(*columns).where(jobs.c.job_id.in_(part), due, jobs.c.fair_key.is_not(None))
        found = connection.execute(mine.order_by(jobs.c.id).with_for_update(skip_locked=True))
        fair_queue.give_turns(connection, found.all())


def _put_one(connection: Connection, job: NewJob, now: float) -> Placed:
    holder = select(jobs.c.job_id).where(jobs.c.unique_key == job.unique_key)
    # On MySQL a caller's transaction may read an older snapshot; a locking read doesn't.
    if connection.dialect.name in {"mysql", "mariadb"}:
        holder = holder.with_for_update(read=True)
    if job.unique_for is not None:
        old = and_(jobs.c.unique_key == job.unique_key, jobs.c.created_at <= now - job.unique_for)
        connection.execute(update(jobs).where(old).values(unique_key=None))
    row = _staged_later(_row(job, now))
    while not insert_if_new(connection, jobs, row):
        if (
            job.on_conflict is not Conflict.KEEP
            and (replaced := _replace(connection, job, now)) is not None
        ):
            return Placed(replaced, created=False, replaced=True)
        living = connection.execute(holder).scalar()
        if living is not None:  # otherwise it ended just now, and the key is free
            return Placed(living, created=False)
    return Placed(job.id, created=True)


def _replace(connection: Connection, job: NewJob, now: float) -> str | None:
    """Give the job's payload and time to the living job of its key. Returns the id of that job.

    None: it has started, or has ended. With `Conflict.LATEST` a job that has started loses its key.
    """
    living = select(
        jobs.c.id, jobs.c.job_id, jobs.c.state, jobs.c.attempts, jobs.c.created_at, jobs.c.fair_key
    )
    row = connection.execute(
        living.where(jobs.c.unique_key == job.unique_key).with_for_update()
    ).first()
    if row is None:
        return None
    if row.state == "reserved" or row.attempts:
        if job.on_conflict is Conflict.LATEST:
            connection.execute(update(jobs).where(jobs.c.id == row.id).values(unique_key=None))
        return None
    changes: dict[str, Any] = {"payload": job.payload}
    if (moved := job.replacement_time(row.created_at, now)) is not None:
        waits = moved > now or row.fair_key is not None
        changes |= {"available_at": moved, "state": "delayed" if waits else "pending"}
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(changes))
    return str(row.job_id)


def _row(job: NewJob, now: float) -> dict[str, Any]:
    later = job.available_at is not None and job.available_at > now
    return {
        "job_id": job.id,
        "queue": job.queue,
        "payload": job.payload,
        "priority": job.priority,
        "unique_key": job.unique_key,
        "created_at": now,
        "state": "delayed" if later else "pending",
        "available_at": job.available_at if later else now,
        **({} if job.fair_key is None else {"fair_key": job.fair_key}),
    }


def claim(connection: Connection, dialect: Dialect, wanted: Claim) -> list[ReservedJob]:
    """Carry out a claim under a fresh token. Returns the jobs in strict order."""
    token = uuid4().hex[:20] + "."
    rank = {queue: place for place, queue in enumerate(dict.fromkeys(wanted.queues))}
    rows = dialect.claim(connection, replace(wanted, queues=list(rank), token=token))
    # RETURNING has no order.
    ordered = sorted(
        rows, key=lambda row: (rank[row.queue], row.priority, row.available_at, row.id)
    )
    return [_reserved(row, token) for row in ordered]


def _reserved(row: Row[Any], token: str) -> ReservedJob:
    return ReservedJob(
        lease=Lease(row.id, f"{token}{row.id}"),
        id=row.job_id,
        queue=row.queue,
        payload=row.payload,
        priority=row.priority,
        attempts=row.attempts,
        rescues=row.rescues,
    )


def hold(
    connection: Connection, ids: Sequence[str], now: float, until: float, by: str
) -> list[HeldJob]:
    """Reserve jobs by id that are not reserved, without counting an attempt.

    The rows are locked before they are read, so that the views show what was reserved.
    """
    token, held = uuid4().hex[:20] + ".", []
    for part in chunks(ids):
        free = (
            select(jobs)
            .where(jobs.c.job_id.in_(part), jobs.c.state != "reserved")
            .order_by(jobs.c.id)
        )
        rows = connection.execute(free.with_for_update()).all()
        found = [
            HeldJob(Lease(row.id, f"{token}{row.id}"), view(row, state_of(row, now)))
            for row in rows
        ]
        if found:
            taken = [
                {"job": each.lease.key, "given": each.lease.token, "until": until, "by": by}
                for each in found
            ]
            connection.execute(_HOLD, taken)
        held += found
    return held


def stage(connection: Connection, dialect: Dialect, now: float) -> int:
    """Move due delayed jobs to pending. Returns how many: at most BATCH."""
    due = connection.execute(dialect.locking("due_jobs"), {"now": now, "limit": BATCH}).all()
    ids = [row.id for row in due if row.fair_key is None]
    staged = len(ids)
    if ids:
        # Their rows are locked. A condition on the state would let InnoDB take another index.
        connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(state="pending"))
    if len(ids) < len(due):
        staged += fair_queue.stage(connection, [row for row in due if row.fair_key is not None])
    fair_queue.tidy(connection)
    return staged


def rescue(connection: Connection, dialect: Dialect, now: float) -> int:
    """Return jobs whose lease has ended to their old places. Returns how many: at most BATCH."""
    ids = _first(connection, dialect, "ended_leases", now)
    if ids:
        released = {"state": unleased_state(now), "rescues": jobs.c.rescues + 1, **FREE}
        connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(released))
    return len(ids)


def pending_and_next_due(
    connection: Connection, queues: Sequence[str], now: float
) -> tuple[bool, float]:
    """Whether `queues` have a pending job, and when the next delayed job, lease or pause ends."""
    row = connection.execute(
        statement("pending_and_next_due"), {"queues": list(queues), "now": now}
    ).one()
    return bool(row.pending), _first_end(row)


def next_due(connection: Connection, now: float) -> float:
    """The instant at which the next delayed job, lease or pause ends."""
    return _first_end(connection.execute(statement("next_due"), {"now": now}).one())


def _first_end(row: Row[Any]) -> float:
    return min(
        (at for at in (row.due, row.ended, row.resumed) if at is not None), default=float("inf")
    )


def remove(connection: Connection, ids: Sequence[str]) -> int:
    """Delete jobs by id, in any state. Returns how many."""
    numbers = _numbers(connection, ids)
    return sum(delete_by_id(connection, jobs, part) for part in chunks(numbers))


def hasten(connection: Connection, ids: Sequence[str], now: float) -> int:
    """Make delayed jobs due now, by id. Returns how many."""
    return sum(
        connection.execute(_HASTEN, {"job": number, "now": now}).rowcount
        for number in _numbers(connection, ids)
    )


def _numbers(connection: Connection, ids: Sequence[str]) -> list[int]:
    """The rows of these jobs, which are then changed by their primary key.

    InnoDB locks, and waits for, each row that a change reads on its way. On the way of another
    index are the rows of transactions that are open.
    """
    found = (select(jobs.c.id).where(jobs.c.job_id.in_(part)) for part in chunks(ids))
    return [number for each in found for number in connection.execute(each).scalars()]


def clear(connection: Connection, queue: str, but: Sequence[str]) -> int:
    """Delete pending and delayed jobs, unless their payload contains one of the texts `but`.

    Returns how many: at most BATCH.
    """
    free = and_(jobs.c.queue == queue, jobs.c.state.in_(["pending", "delayed"]))
    others = [~jobs.c.payload.contains(each, autoescape=True) for each in but]
    first = select(jobs.c.id).where(free, *others).limit(BATCH).with_for_update(skip_locked=True)
    ids = connection.execute(first).scalars().all()
    return delete_by_id(connection, jobs, ids)


def _first(connection: Connection, dialect: Dialect, name: str, now: float) -> list[int]:
    return list(connection.execute(dialect.locking(name), {"now": now, "limit": BATCH}).scalars())
