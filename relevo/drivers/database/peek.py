"""Looking into the `relevo_jobs` table: how full the queues are, and what stands in them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select, union_all

from relevo.drivers.contract import HIGHEST_PRIORITY, LOWEST_PRIORITY, JobView, Sizes, State
from relevo.drivers.database.table import jobs


def queues(connection: Connection) -> list[str]:
    return list(connection.execute(select(jobs.c.queue).distinct().order_by(jobs.c.queue)).scalars())


def sizes(connection: Connection, queue: str, now: float) -> Sizes:
    counted = select(jobs.c.state, func.count()).where(jobs.c.queue == queue).group_by(jobs.c.state)
    by_state: dict[str, int] = dict(connection.execute(counted).all())
    oldest = _oldest(connection, queue) if by_state.get(State.PENDING) else None
    return Sizes(
        pending=by_state.get(State.PENDING, 0),
        delayed=by_state.get(State.DELAYED, 0),
        reserved=by_state.get(State.RESERVED, 0),
        oldest=None if oldest is None else max(0.0, now - oldest),
    )


def _oldest(connection: Connection, queue: str) -> float | None:
    # One look at the index per priority: a MIN over all of them would read every pending job of the queue.
    firsts = union_all(*(
        select(func.min(jobs.c.available_at).label("at"))
        .where(jobs.c.queue == queue, jobs.c.state == State.PENDING.value, jobs.c.priority == priority)
        for priority in range(HIGHEST_PRIORITY, LOWEST_PRIORITY + 1)
    )).subquery()  # fmt: skip
    return connection.execute(select(func.min(firsts.c.at))).scalar()


def peek(connection: Connection, queue: str, state: State, limit: int) -> list[JobView]:
    order = {
        State.PENDING: (jobs.c.priority, jobs.c.available_at, jobs.c.id),
        State.DELAYED: (jobs.c.available_at, jobs.c.priority, jobs.c.id),
        State.RESERVED: (jobs.c.reserved_until, jobs.c.id),
    }[state]
    first = select(jobs).where(jobs.c.queue == queue, jobs.c.state == state.value).order_by(*order).limit(limit)
    return [_view(row) for row in connection.execute(first)]


def _view(row: Row[Any]) -> JobView:
    return JobView(
        id=row.job_id, queue=row.queue, state=State(row.state), payload=row.payload, priority=row.priority,
        attempts=row.attempts, rescues=row.rescues, available_at=row.available_at, reserved_until=row.reserved_until,
        reserved_by=row.reserved_by, created_at=row.created_at,
    )  # fmt: skip
