"""What a holder does with its leases in the `relevo_jobs` table. Each verb runs inside a
transaction of its caller.

A lease is `(id, token)`; the token is the reservation's and the job's id, so it is unlike any other
ever given, and statements that name both lists (`id IN … AND token IN …`) can't hit a job that was
reserved anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, delete, select, update

from relevo.drivers.contract import Lease
from relevo.drivers.database.tables import jobs

# A statement names at most so many jobs.
MAX_PER_STATEMENT = 1000

#: What a job has that nobody holds.
FREE = {"reserved_until": None, "reserved_by": None, "token": None}

_Item = TypeVar("_Item")

# Built once: building them costs more than SQLite takes to do them.
_HELD = and_(
    jobs.c.id.in_(bindparam("keys", expanding=True)),
    jobs.c.token.in_(bindparam("tokens", expanding=True)),
)
_ACK = delete(jobs).where(_HELD)
_EXTEND = update(jobs).where(_HELD).values(reserved_until=bindparam("until"))
_UNLOCK = update(jobs).where(_HELD).values(unique_key=None)
_STILL_HELD = select(jobs.c.token).where(_HELD)


def ack(connection: Connection, leases: Sequence[Lease]) -> int:
    return sum(connection.execute(_ACK, _named(chunk)).rowcount for chunk in chunks(leases))


def unlock(connection: Connection, leases: Sequence[Lease]) -> int:
    return sum(connection.execute(_UNLOCK, _named(chunk)).rowcount for chunk in chunks(leases))


def extend(connection: Connection, leases: Sequence[Lease], until: float) -> list[Lease]:
    """Returns those that are no longer held."""
    lost: list[Lease] = []
    for chunk in chunks(leases):
        renewed = connection.execute(_EXTEND, {"until": until, **_named(chunk)}).rowcount
        if renewed < len(chunk):
            held = set(connection.execute(_STILL_HELD, _named(chunk)).scalars())
            lost += [lease for lease in chunk if lease.token not in held]
    return lost


def release(
    connection: Connection,
    leases: Sequence[Lease],
    now: float,
    delay: float,
    payload: str | None,
    attempts: int | None,
) -> int:
    changes: dict[str, Any] = {
        **FREE,
        "state": "delayed" if delay > 0 else unleased_state(now),
        "attempts": jobs.c.attempts - 1 if attempts is None else attempts,
    }
    if delay > 0:  # without one the job keeps its place in the queue
        changes["available_at"] = now + delay
    if payload is not None:
        changes["payload"] = payload
    return release_changed(connection, leases, changes)


def unleased_state(now: float) -> ColumnElement[str]:
    """The state of a job that nobody holds any more: one that was held by its id may not be due."""
    return case((jobs.c.available_at > now, "delayed"), else_="pending")


def release_changed(
    connection: Connection, leases: Sequence[Lease], changes: dict[str, Any]
) -> int:
    """Make these changes to the jobs that are still held. Returns how many."""
    back = update(jobs).where(_HELD).values(changes)
    return sum(connection.execute(back, _named(chunk)).rowcount for chunk in chunks(leases))


def chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (
        items[start : start + MAX_PER_STATEMENT]
        for start in range(0, len(items), MAX_PER_STATEMENT)
    )


def _named(leases: Sequence[Lease]) -> dict[str, Any]:
    return {
        "keys": [int(lease.key) for lease in leases],
        "tokens": [lease.token for lease in leases],
    }
