"""The verbs of a lease's holder on the `relevo_jobs` table: ack, extend, release, unlock.

A lease is `(id, token)`. The token is the reservation's, followed by the job's id, so no two are
alike, and a statement with both lists (`id IN … AND token IN …`) can't touch a job that was
reserved anew. Each function runs inside a transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, select, update

from relevo.database.deletes import delete_by_id
from relevo.drivers.contract import Lease
from relevo.drivers.database.tables import jobs

# The most jobs that one statement names.
MAX_PER_STATEMENT = 1000

#: The columns of a job without a lease.
FREE = {"reserved_until": None, "reserved_by": None, "token": None}

_Item = TypeVar("_Item")

# Built once: building these costs more than SQLite takes to run them.
_HELD = and_(
    jobs.c.id.in_(bindparam("keys", expanding=True)),
    jobs.c.token.in_(bindparam("tokens", expanding=True)),
)
_EXTEND = update(jobs).where(_HELD).values(reserved_until=bindparam("until"))
_UNLOCK = update(jobs).where(_HELD).values(unique_key=None)
_STILL_HELD = select(jobs.c.token).where(_HELD)


def ack(connection: Connection, leases: Sequence[Lease]) -> int:
    """Delete jobs that are done. Returns how many were still held."""
    return sum(
        delete_by_id(
            connection,
            jobs,
            [lease.key for lease in part],
            token=[lease.token for lease in part],
        )
        for part in chunks(leases)
    )


def unlock(connection: Connection, leases: Sequence[Lease]) -> int:
    """Free the unique keys of held jobs. Returns how many jobs were held."""
    return sum(
        connection.execute(_UNLOCK, _keys_and_tokens(chunk)).rowcount for chunk in chunks(leases)
    )


def extend(connection: Connection, leases: Sequence[Lease], until: float) -> list[Lease]:
    """Renew leases until an instant. Returns the leases that were lost."""
    lost: list[Lease] = []
    for chunk in chunks(leases):
        renewed = connection.execute(_EXTEND, {"until": until, **_keys_and_tokens(chunk)}).rowcount
        if renewed < len(chunk):
            held = set(connection.execute(_STILL_HELD, _keys_and_tokens(chunk)).scalars())
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
    """Return jobs to their queues, as `Driver.release` says. Returns how many were still held."""
    changes: dict[str, Any] = {
        **FREE,
        "state": "delayed" if delay > 0 else unleased_state(now),
        "attempts": jobs.c.attempts - 1 if attempts is None else attempts,
    }
    if delay > 0:  # without a delay the job keeps its place in the queue
        changes["available_at"] = now + delay
    if payload is not None:
        changes["payload"] = payload
    return release_changed(connection, leases, changes)


def unleased_state(now: float) -> ColumnElement[str]:
    """The state of a job that loses its lease: one that was held by its id may not be due."""
    return case((jobs.c.available_at > now, "delayed"), else_="pending")


def release_changed(
    connection: Connection, leases: Sequence[Lease], changes: dict[str, Any]
) -> int:
    """Make changes to the jobs that are still held, with `FREE` among them. Returns how many."""
    change = update(jobs).where(_HELD).values(changes)
    return sum(
        connection.execute(change, _keys_and_tokens(chunk)).rowcount for chunk in chunks(leases)
    )


def chunks(items: Sequence[_Item], size: int = MAX_PER_STATEMENT) -> Iterator[Sequence[_Item]]:
    """The items in slices that one statement can take."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _keys_and_tokens(leases: Sequence[Lease]) -> dict[str, Any]:
    return {
        "keys": [int(lease.key) for lease in leases],
        "tokens": [lease.token for lease in leases],
    }
