"""The read-only verbs on the `relevo_jobs` table: queues, sizes, peek, find, scan.

A delayed job whose time has come counts as pending here, even before a reservation has staged it.
No statement sorts or reads the whole backlog of a queue, except to count it: an order by priority
is walked on the index, one priority at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, select, union_all

from relevo.drivers.contract import HIGHEST_PRIORITY, LOWEST_PRIORITY, JobView, Sizes, State
from relevo.drivers.database import fair_queue
from relevo.drivers.database.leases import chunks
from relevo.drivers.database.statements import statement
from relevo.drivers.database.tables import jobs

_PRIORITIES = range(HIGHEST_PRIORITY, LOWEST_PRIORITY + 1)
_RUN_ORDER = (jobs.c.priority, jobs.c.available_at, jobs.c.id)


def queues(connection: Connection) -> list[str]:
    """The names of all queues with a job, sorted."""
    # MySQL hops on the index by itself (a loose index scan); told to hop, it reads every entry.
    hop = (
        select(jobs.c.queue).distinct()
        if connection.dialect.name in {"mysql", "mariadb"}
        else statement("queues")
    )
    return sorted(connection.execute(hop).scalars())


def sizes(connection: Connection, queue: str, now: float) -> Sizes:
    """How full a queue is."""
    counted = select(jobs.c.state, func.count()).where(jobs.c.queue == queue).group_by(jobs.c.state)
    by_state: dict[str, int] = dict(connection.execute(counted).all())
    due, first_due = connection.execute(
        select(func.count(), func.min(jobs.c.available_at)).where(
            _in(queue, "delayed"), jobs.c.available_at <= now
        )
    ).one()
    firsts = [first_due, _oldest(connection, queue) if by_state.get("pending") else None]
    since = min((at for at in firsts if at is not None), default=None)
    return Sizes(
        pending=by_state.get("pending", 0) + due,
        delayed=by_state.get("delayed", 0) - due,
        reserved=by_state.get("reserved", 0),
        oldest=None if since is None else max(0.0, now - since),
    )


def _oldest(connection: Connection, queue: str) -> float | None:
    """Since when the oldest pending job could have run."""
    firsts = union_all(
        *(
            select(func.min(jobs.c.available_at).label("at")).where(
                _in(queue, "pending"), jobs.c.priority == priority
            )
            for priority in _PRIORITIES
        )
    ).subquery()
    first: float | None = connection.execute(select(func.min(firsts.c.at))).scalar()
    return (
        fair_queue.oldest_since(connection, queue)
        if first is not None and first < fair_queue.TURNS
        else first
    )


def peek(connection: Connection, queue: str, state: State, limit: int, now: float) -> list[JobView]:
    """The first jobs of a queue in one state, in the order in which they will run."""
    rows = _READERS[state](connection, queue, limit, now)
    return [view(row, state) for row in rows[:limit]]


def _pending(connection: Connection, queue: str, limit: int, now: float) -> list[Row[Any]]:
    staged = select(jobs).where(_in(queue, "pending")).order_by(*_RUN_ORDER).limit(limit)
    due = select(jobs).where(_in(queue, "delayed"), jobs.c.available_at <= now)
    both = [*connection.execute(staged), *connection.execute(_by_priority(due, limit))]
    return sorted(both, key=lambda row: (row.priority, row.available_at, row.id))


def _delayed(connection: Connection, queue: str, limit: int, now: float) -> list[Row[Any]]:
    later = select(jobs).where(_in(queue, "delayed"), jobs.c.available_at > now)
    rows = connection.execute(_by_priority(later, limit))
    return sorted(rows, key=lambda row: (row.available_at, row.priority, row.id))


def _reserved(connection: Connection, queue: str, limit: int, _now: float) -> list[Row[Any]]:
    held = select(jobs).where(_in(queue, "reserved")).order_by(jobs.c.reserved_until, jobs.c.id)
    return list(connection.execute(held.limit(limit)))


_READERS = {State.PENDING: _pending, State.DELAYED: _delayed, State.RESERVED: _reserved}


def find(connection: Connection, ids: Sequence[str], now: float) -> list[JobView]:
    """The living jobs with these ids, in any state."""
    rows = (
        connection.execute(select(jobs).where(jobs.c.job_id.in_(part)).order_by(jobs.c.id))
        for part in chunks(ids)
    )
    return [view(row, state_of(row, now)) for part in rows for row in part]


def scan(connection: Connection, after: int, limit: int, now: float) -> tuple[list[JobView], str]:
    """The next `limit` jobs behind row `after`, and the row for the next call (empty: no more)."""
    page = select(jobs).where(jobs.c.id > after).order_by(jobs.c.id).limit(limit)
    rows = connection.execute(page).all()
    following = str(rows[-1].id) if len(rows) == limit else ""
    return [view(row, state_of(row, now)) for row in rows], following


def state_of(row: Row[Any], now: float) -> State:
    """The state of a job. A delayed job whose time has come is pending."""
    is_due = row.state == "delayed" and row.available_at <= now
    return State.PENDING if is_due else State(row.state)


def _in(queue: str, state: str) -> ColumnElement[bool]:
    return and_(jobs.c.queue == queue, jobs.c.state == state)


def _by_priority(rows: Select[Any], limit: int) -> Any:
    """The first `limit` rows of each priority: the index has them in order."""
    firsts = (
        rows.where(jobs.c.priority == priority)
        .order_by(jobs.c.available_at, jobs.c.id)
        .limit(limit)
        .subquery()
        for priority in _PRIORITIES
    )
    return union_all(*(select(first) for first in firsts))


def view(row: Row[Any], state: State) -> JobView:
    """A row as the contract shows it."""
    since = row.fair_since if row.available_at < fair_queue.TURNS else row.available_at
    return JobView(
        id=row.job_id,
        queue=row.queue,
        state=state,
        payload=row.payload,
        priority=row.priority,
        attempts=row.attempts,
        rescues=row.rescues,
        available_at=since,
        reserved_until=row.reserved_until,
        reserved_by=row.reserved_by,
        created_at=row.created_at,
    )
