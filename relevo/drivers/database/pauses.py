"""Paused queues, in a table, so that every worker obeys them, also one that starts later."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, or_, select, update

from relevo.drivers.database.statements import insert_if_new
from relevo.drivers.database.tables import pauses

_STILL = select(pauses.c.queue, pauses.c.until).where(
    or_(pauses.c.until.is_(None), pauses.c.until > bindparam("now"))
)


def pause(connection: Connection, queue: str, until: float | None) -> None:
    if not insert_if_new(connection, pauses, {"queue": queue, "until": until}):
        connection.execute(update(pauses).where(pauses.c.queue == queue).values(until=until))


def resume(connection: Connection, queue: str) -> None:
    connection.execute(delete(pauses).where(pauses.c.queue == queue))


def paused(connection: Connection, now: float) -> dict[str, float | None]:
    return {row.queue: row.until for row in connection.execute(_STILL, {"now": now})}
