"""The outbox: jobs that were dispatched in a transaction of this database, for another broker.

    add               (in the caller's transaction) writes the jobs to relevo_outbox
    forward           puts them into the broker and deletes them here, in one transaction
    delete_delivered  deletes the row of a job that has ended, if its sender died after the put

Rows are forwarded in order, one connection at a time. The sender holds the first rows locked, so
that another one waits and the order stays. If it dies between the put and the commit, the rows are
put again: until the job's end is recorded, the broker refuses a second job with the same unique
key, and the record deletes the row. So no job is put twice. A job that replaces itself
(`self.replace`) ends without a record; its row is deleted before another is sent under its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from relevo import clock
from relevo.database import text
from relevo.store import receipts
from relevo.store.store import Store
from relevo.store.tables import outbox

# Rows that are forwarded in one step.
PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A job on its way to the broker of a connection.

    `delay` is in seconds after the dispatch. `once` is a name under which a job is dispatched only
    once. `failure`: what a batch's callback is told about the member that has failed.
    """

    connection: str
    queue: str
    uuid: str
    payload: str
    priority: int = 0
    delay: float = 0
    available_at: float | None = None
    unique_key: str | None = None
    once: str | None = None
    failure: Mapping[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return a dict for JSON, without unset fields."""
        return {name: value for name, value in asdict(self).items() if value not in (None, 0)}


#: A function that dispatches jobs in a transaction of the store.
Deliver = Callable[[Connection, Sequence[Sending]], None]


@dataclass(frozen=True, slots=True)
class Backlog:
    """The jobs that wait for a connection's broker: how many, and since when the oldest one."""

    connection: str
    jobs: int
    since: float


def new_only(connection: Connection, sendings: Sequence[Sending]) -> list[Sending]:
    """Return those that were not dispatched before, and note that they are now.

    The note counts only if the caller's transaction commits.
    """
    return [
        each
        for each in sendings
        if each.once is None or receipts.insert_once(connection, each.once)
    ]


def add(connection: Connection, sendings: Sequence[Sending]) -> None:
    """Write jobs to the outbox, in the caller's transaction."""
    now = clock.now()
    rows = [
        {
            "uuid": text.name(each.uuid),
            "connection": each.connection,
            "queue": each.queue,
            "payload": each.payload,
            "priority": each.priority,
            "unique_key": each.unique_key,
            "created_at": now,
            "available_at": now + each.delay if each.delay else each.available_at,
        }
        for each in sendings
    ]
    if rows:
        connection.execute(insert(outbox), rows)


def delete_delivered(connection: Connection, uuids: Iterable[str]) -> None:
    """Delete the rows of jobs that have ended.

    They were put into the broker; their sender died before it could delete the rows.
    """
    names = sorted({text.name(uuid) for uuid in uuids})
    if names:
        connection.execute(delete(outbox).where(outbox.c.uuid.in_(names)))


def connections(store: Store) -> list[str]:
    """Return the connections for which jobs wait."""
    query = select(outbox.c.connection).distinct().order_by(outbox.c.connection)
    return list(store.read(lambda connection: connection.execute(query).scalars().all()))


def forward(
    store: Store, name: str, put: Callable[[Connection, Sequence[Sending]], None], limit: int = PAGE
) -> int:
    """Pass the first rows of a connection to `put`, and delete them. Returns how many.

    An error in `put` undoes the step.
    """
    query = (
        select(outbox)
        .where(outbox.c.connection == name)
        .order_by(outbox.c.id)
        .limit(limit)
        .with_for_update()
    )

    def forward_page(connection: Connection) -> int:
        rows = connection.execute(query).all()
        if rows:
            put(connection, [_sending(row) for row in rows])
            connection.execute(delete(outbox).where(outbox.c.id.in_([row.id for row in rows])))
        return len(rows)

    return store.write(forward_page)


def status(store: Store) -> list[Backlog]:
    """Return the backlog of each connection."""
    query = select(outbox.c.connection, func.count(), func.min(outbox.c.created_at)).group_by(
        outbox.c.connection
    )
    rows = store.read(
        lambda connection: connection.execute(query.order_by(outbox.c.connection)).all()
    )
    return [Backlog(*row) for row in rows]


def _sending(row: Any) -> Sending:
    return Sending(
        connection=row.connection,
        queue=row.queue,
        uuid=row.uuid,
        payload=row.payload,
        priority=row.priority,
        available_at=row.available_at,
        unique_key=row.unique_key or text.name(f"outbox:{row.id}:{row.uuid}"),
    )
