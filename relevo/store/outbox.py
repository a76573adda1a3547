"""The outbox: jobs that were dispatched in a transaction of this database, for another broker.

    add               (in the caller's transaction) writes the jobs to relevo_outbox
    claim             takes the first rows of a connection for CLAIM_SECONDS, in a short transaction
    delete            deletes rows whose jobs were put, in another one
    delete_delivered  deletes the row of a job that has ended, if its sender died after the put

No row is locked while a broker is waited for. Rows are forwarded in order: while the first rows of
a connection are claimed or locked, nobody takes those behind them, and nobody waits. The sender
claims again after each page, so it finds what others have left.

If the sender dies between the put and the delete, its claim ends and the rows are put again: until
the job's end is recorded, the broker refuses a second job with the same unique key, and the record
deletes the row. So no job is put twice. A job that replaces itself (`self.replace`) ends without a
record; its row is deleted before another is sent under its id.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from relevo import clock
from relevo.database import text
from relevo.database.deletes import delete_by_id
from relevo.store import receipts
from relevo.store.store import Store
from relevo.store.tables import outbox

# Rows that are forwarded in one step.
PAGE = 200
# How long a claim lasts if its process dies or stands still.
CLAIM_SECONDS = 30.0


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
class OutboxRow:
    """A row of the outbox."""

    id: int
    sending: Sending


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows that this process is sending, in their order, and the instant until which it may."""

    rows: Sequence[OutboxRow]
    until: float

    @property
    def sendings(self) -> list[Sending]:
        return [row.sending for row in self.rows]


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
        query = select(outbox.c.id).where(outbox.c.uuid.in_(names))
        delete_by_id(connection, outbox, connection.execute(query).scalars().all())


def connections(store: Store) -> list[str]:
    """Return the connections for which jobs wait."""
    query = select(outbox.c.connection).distinct().order_by(outbox.c.connection)
    return list(store.read(lambda connection: connection.execute(query).scalars().all()))


def has_free(store: Store, name: str) -> bool:
    """Whether the first row of a connection may be taken. It takes no lock."""
    first = (
        select(outbox.c.claimed_until)
        .where(outbox.c.connection == name)
        .order_by(outbox.c.id)
        .limit(1)
    )
    row = store.read(lambda connection: connection.execute(first).first())
    return row is not None and _is_free(row, clock.now())


def lock_free(connection: Connection, name: str) -> list[OutboxRow]:
    """Lock the first rows of a connection, in the caller's transaction, if they are free.

    Returns at most PAGE rows: none if the first one is claimed or locked.
    """
    mine, now = outbox.c.connection == name, clock.now()
    page = select(outbox).where(mine).order_by(outbox.c.id).limit(PAGE)
    rows = connection.execute(page.with_for_update(skip_locked=True)).all()
    first = connection.execute(select(func.min(outbox.c.id)).where(mine)).scalar()
    if not rows or rows[0].id != first:
        return []
    free = itertools.takewhile(lambda row: _is_free(row, now), rows)
    return [OutboxRow(row.id, _sending(row)) for row in free]


def claim(store: Store, name: str) -> Claim:
    """Claim the first rows of a connection, if they are free."""
    if not has_free(store, name):
        return Claim([], 0.0)
    until = clock.now() + CLAIM_SECONDS

    def take(connection: Connection) -> list[OutboxRow]:
        rows = lock_free(connection, name)
        if rows:
            mine = update(outbox).where(outbox.c.id.in_([row.id for row in rows]))
            connection.execute(mine.values(claimed_until=until))
        return rows

    return Claim(store.write(take), until)


def give_up(store: Store, claimed: Claim) -> None:
    """Free the rows of a claim that could not be put."""
    mine = update(outbox).where(
        outbox.c.id.in_([row.id for row in claimed.rows]), outbox.c.claimed_until == claimed.until
    )
    store.write(lambda connection: connection.execute(mine.values(claimed_until=None)))


def delete(connection: Connection, rows: Sequence[OutboxRow]) -> None:
    """Delete rows whose jobs have left the outbox, in the caller's transaction."""
    delete_by_id(connection, outbox, [row.id for row in rows])


def status(store: Store) -> list[Backlog]:
    """Return the backlog of each connection."""
    query = select(outbox.c.connection, func.count(), func.min(outbox.c.created_at)).group_by(
        outbox.c.connection
    )
    rows = store.read(
        lambda connection: connection.execute(query.order_by(outbox.c.connection)).all()
    )
    return [Backlog(*row) for row in rows]


def _is_free(row: Any, now: float) -> bool:
    """Whether no living process is sending a row.

    A claim that ends later than one can is that of a process whose clock was wrong.
    """
    until = row.claimed_until
    return until is None or until <= now or until > now + 2 * CLAIM_SECONDS


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
