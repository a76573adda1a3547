"""The life of a job in the `relevo_jobs` table, one function a verb. Each runs inside a transaction of its caller.

A lease is `(id, token)`; the token is the reservation's and the job's id, so it is unlike any other ever given, and
statements that name both lists (`id IN … AND token IN …`) can't hit a job that was reserved anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from relevo.drivers.contract import Lease, NewJob, Placed, ReservedJob
from relevo.drivers.database.dialects import Claim, Dialect, statement
from relevo.drivers.database.table import jobs

# A statement names at most so many jobs; also the most that one sweep moves, so that none holds the table for long.
BATCH = 1000

_Item = TypeVar("_Item")
_FREE = {"reserved_until": None, "reserved_by": None, "token": None}


def put(connection: Connection, new: Sequence[NewJob], now: float) -> list[Placed]:
    if any(job.unique_key is not None for job in new):
        return [_put_unique(connection, job, now) for job in new]
    for chunk in _chunks(new):
        connection.execute(insert(jobs), [_row(job, now) for job in chunk])
    return [Placed(job.id, created=True) for job in new]


def _put_unique(connection: Connection, job: NewJob, now: float) -> Placed:
    holder = select(jobs.c.job_id).where(jobs.c.unique_key == job.unique_key)
    while True:
        if job.unique_key is not None and (living := connection.execute(holder).scalar()):
            return Placed(living, created=False)
        try:
            with connection.begin_nested():
                connection.execute(insert(jobs), _row(job, now))
        except IntegrityError:  # another client was faster; its job may be done already, so look again
            continue
        return Placed(job.id, created=True)


def _row(job: NewJob, now: float) -> dict[str, Any]:
    later = job.available_at is not None and job.available_at > now
    return {
        "job_id": job.id, "queue": job.queue, "payload": job.payload, "priority": job.priority,
        "unique_key": job.unique_key, "created_at": now, "state": "delayed" if later else "pending",
        "available_at": job.available_at if later else now,
    }  # fmt: skip


def claim(
    connection: Connection, dialect: Dialect, queues: Sequence[str], limit: int, now: float, until: float, by: str
) -> list[ReservedJob]:
    """Reserve up to `limit` jobs, emptying the queues in the order given."""
    token = uuid4().hex[:20] + "."
    taken: list[ReservedJob] = []
    for queue in queues:
        if len(taken) >= limit:
            break
        rows = dialect.claim(connection, Claim(queue, limit - len(taken), now, until, by, token))
        taken += [_reserved(row, queue, token) for row in rows]
    return taken


def _reserved(row: Row[Any], queue: str, token: str) -> ReservedJob:
    return ReservedJob(
        lease=Lease(row.id, f"{token}{row.id}"), id=row.job_id, queue=queue, payload=row.payload,
        priority=row.priority, attempts=row.attempts, rescues=row.rescues,
    )  # fmt: skip


def ack(connection: Connection, leases: Sequence[Lease]) -> int:
    return sum(connection.execute(delete(jobs).where(_held(chunk))).rowcount for chunk in _chunks(leases))


def extend(connection: Connection, leases: Sequence[Lease], until: float) -> list[Lease]:
    lost: list[Lease] = []
    for chunk in _chunks(leases):
        renewed = connection.execute(update(jobs).where(_held(chunk)).values(reserved_until=until)).rowcount
        if renewed < len(chunk):
            held = set(connection.execute(select(jobs.c.token).where(_held(chunk))).scalars())
            lost += [lease for lease in chunk if lease.token not in held]
    return lost


def release(
    connection: Connection, leases: Sequence[Lease], now: float, delay: float, payload: str | None, attempts: int | None
) -> int:
    changes: dict[str, Any] = {
        **_FREE,
        "state": "delayed" if delay > 0 else "pending",
        "attempts": jobs.c.attempts - 1 if attempts is None else attempts,
    }
    if delay > 0:  # without one the job keeps its place in the queue
        changes["available_at"] = now + delay
    if payload is not None:
        changes["payload"] = payload
    return sum(connection.execute(update(jobs).where(_held(c)).values(changes)).rowcount for c in _chunks(leases))


def mature(connection: Connection, dialect: Dialect, now: float) -> int:
    """Delayed jobs that are due become pending. Returns how many (at most BATCH)."""
    ids = _first(connection, dialect, "due", now)
    if ids:
        connection.execute(update(jobs).where(jobs.c.id.in_(ids), jobs.c.state == "delayed").values(state="pending"))
    return len(ids)


def rescue(connection: Connection, dialect: Dialect, now: float) -> int:
    """Jobs whose lease has ended become pending again, where they stood. Returns how many (at most BATCH)."""
    ids = _first(connection, dialect, "ended", now)
    if ids:
        ended = and_(jobs.c.id.in_(ids), jobs.c.state == "reserved", jobs.c.reserved_until <= now)
        connection.execute(update(jobs).where(ended).values(state="pending", rescues=jobs.c.rescues + 1, **_FREE))
    return len(ids)


def look(connection: Connection, queues: Sequence[str], now: float) -> tuple[bool, float]:
    """Whether anything is pending in `queues`, and the instant at which the next delayed job, lease or pause ends."""
    row = connection.execute(statement("look"), {"queues": list(queues), "now": now}).one()
    ends = [at for at in (row.due, row.ended, row.resumed) if at is not None]
    return bool(row.pending), min(ends, default=float("inf"))


def drop(connection: Connection, ids: Iterable[str]) -> int:
    wanted = list(ids)
    return sum(connection.execute(delete(jobs).where(jobs.c.job_id.in_(c))).rowcount for c in _chunks(wanted))


def clear(connection: Connection, queue: str) -> int:
    return connection.execute(delete(jobs).where(jobs.c.queue == queue, jobs.c.state != "reserved")).rowcount


def _first(connection: Connection, dialect: Dialect, name: str, now: float) -> list[int]:
    return list(connection.execute(dialect.locking(name), {"now": now, "limit": BATCH}).scalars())


def _held(leases: Sequence[Lease]) -> ColumnElement[bool]:
    keys, tokens = [lease.key for lease in leases], [lease.token for lease in leases]
    return and_(jobs.c.id.in_(keys), jobs.c.token.in_(tokens))


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
