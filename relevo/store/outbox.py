"""The outbox: jobs that were handed in with a transaction of this database, and are to be put into
another broker.

    add (in the transaction)  ->  relevo_outbox  ->  forward: put into the broker, deleted here, in one transaction
                                                 ->  came: the job has ended, so it was put: deleted, whoever had died

Rows go in the order in which they came, a connection at a time; who forwards holds the first rows
locked, so another waits and the order stays. One that dies between the put and the commit leaves
rows that are put again: the broker has a job with their unique key until it has been recorded as
ended, and with that record the row goes. So none is put twice. A job that is replaced
(`self.replace`) ends without a record: its row goes before another is sent under its id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from relevo import clock
from relevo.database import text
from relevo.store import receipts
from relevo.store.store import Store
from relevo.store.tables import outbox

# So many rows are forwarded in one step.
PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A job on its way to the broker of a connection. `delay`: seconds from when it is handed in.

    `once`: a name; what was handed in under it before is not handed in again.
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

    def as_json(self) -> dict[str, Any]:
        """As JSON: only what there is to say."""
        return {name: value for name, value in asdict(self).items() if value not in (None, 0)}


#: Hands jobs in with a transaction of the store.
Deliver = Callable[[Connection, Sequence[Sending]], None]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for a connection's broker: how many jobs, and since when the oldest."""

    connection: str
    jobs: int
    since: float


def new_only(connection: Connection, sendings: Sequence[Sending]) -> list[Sending]:
    """Those that were not handed in before, which they are from now on (if the transaction
    commits).
    """
    return [
        each
        for each in sendings
        if each.once is None or receipts.insert_once(connection, each.once)
    ]


def add(connection: Connection, sendings: Sequence[Sending]) -> None:
    """Hand jobs in, in a transaction of the caller's."""
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
    """These jobs have ended, so they have been put: forget those whose sender died before it could
    say so.
    """
    names = sorted({text.name(uuid) for uuid in uuids})
    if names:
        connection.execute(delete(outbox).where(outbox.c.uuid.in_(names)))


def connections(store: Store) -> list[str]:
    """The connections whose brokers something waits for."""
    query = select(outbox.c.connection).distinct().order_by(outbox.c.connection)
    return list(store.read(lambda connection: connection.execute(query).scalars().all()))


def forward(
    store: Store, name: str, put: Callable[[Connection, Sequence[Sending]], None], limit: int = PAGE
) -> int:
    """Give the first rows of a connection to `put`, and delete them. Returns how many. What `put`
    raises undoes it.
    """
    query = (
        select(outbox)
        .where(outbox.c.connection == name)
        .order_by(outbox.c.id)
        .limit(limit)
        .with_for_update()
    )

    def forwarded(connection: Connection) -> int:
        rows = connection.execute(query).all()
        if rows:
            put(connection, [_sending(row) for row in rows])
            connection.execute(delete(outbox).where(outbox.c.id.in_([row.id for row in rows])))
        return len(rows)

    return store.write(forwarded)


def status(store: Store) -> list[Backlog]:
    """What waits, by connection."""
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
