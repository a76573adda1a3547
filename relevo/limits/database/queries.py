"""The queries without a lock, and the deletion of unused rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, exists, func, or_, select

from relevo.limits.contract import RATE, HeldPermit, LimitView
from relevo.limits.database.tables import jobs, limits, permits, waiters
from relevo.limits.views import NAMED, view_of
from relevo.limits.waiters import FORGET

_HELD = and_(jobs.c.id == permits.c.job_key, jobs.c.token == permits.c.token)


def views(connection: Connection, prefix: str, most: int, now: float) -> list[LimitView]:
    """The limits in use whose keys begin with `prefix`."""
    in_use = or_(
        limits.c.state.is_not(None),
        exists().where(waiters.c.limit_key == limits.c.limit_key),
        exists().where(permits.c.limit_key == limits.c.limit_key, _HELD),
    )
    wanted = select(limits).where(limits.c.limit_key.startswith(prefix, autoescape=True), in_use)
    rows = connection.execute(wanted.order_by(limits.c.limit_key).limit(most)).all()
    return [_view(connection, row, now) for row in rows]


def _view(connection: Connection, row: Row[Any], now: float) -> LimitView:
    columns = select(permits.c.job_id, permits.c.task, permits.c.since, jobs.c.reserved_until)
    held = columns.select_from(permits.join(jobs, _HELD)).where(
        permits.c.limit_key == row.limit_key
    )
    holders = [HeldPermit(*each) for each in connection.execute(held)]
    mine = waiters.c.limit_key == row.limit_key
    waiting = connection.execute(select(func.count()).select_from(waiters).where(mine)).scalar_one()
    first: Sequence[str] = ()
    if waiting:
        first = (
            connection.execute(
                select(waiters.c.job_id)
                .where(mine)
                .order_by(waiters.c.since, waiters.c.job_id)
                .limit(NAMED)
            )
            .scalars()
            .all()
        )
    state = json.loads(row.state) if row.state else None
    return view_of(row.limit_key, state, row.at_most, holders, waiting, list(first), now)


def waiting(connection: Connection, name: str) -> list[str]:
    """The ids of the jobs that wait at keys of a rate, first come first."""
    key = f"{RATE}/{name}"
    theirs = or_(
        waiters.c.limit_key == key, waiters.c.limit_key.startswith(f"{key}/", autoescape=True)
    )
    return list(
        connection.execute(
            select(waiters.c.job_id).where(theirs).order_by(waiters.c.since)
        ).scalars()
    )


def forget_unused(connection: Connection, now: float) -> None:
    """Delete permits of leases that are gone, jobs that never came, and keys whose time is up."""
    connection.execute(delete(permits).where(~exists().where(_HELD)))
    connection.execute(delete(waiters).where(waiters.c.due < now - FORGET))
    taken = [
        exists().where(table.c.limit_key == limits.c.limit_key) for table in (permits, waiters)
    ]
    connection.execute(delete(limits).where(limits.c.keep_until < now, *(~each for each in taken)))
