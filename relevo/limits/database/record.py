"""One key in the tables, inside a transaction that has locked the key's row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, select, update

from relevo.limits.contract import Holder
from relevo.limits.database.tables import jobs, limits, permits, waiters
from relevo.limits.rates import Rate
from relevo.limits.waiters import Waiter

_KEY: Any = bindparam("key")
HELD = and_(jobs.c.id == permits.c.job_key, jobs.c.token == permits.c.token)

# Built once: building a statement costs more than SQLite takes to run it.
_HOLDERS = (
    select(permits.c.token, jobs.c.reserved_until)
    .select_from(permits.outerjoin(jobs, HELD))
    .where(permits.c.limit_key == _KEY)
)
_MINE = and_(waiters.c.limit_key == _KEY, waiters.c.job_id == bindparam("job"))
_WAITER = select(waiters.c.job_id, waiters.c.since, waiters.c.due).where(_MINE)
_EXPECTED = select(waiters.c.job_id, waiters.c.since, waiters.c.due).where(
    waiters.c.limit_key == _KEY,
    waiters.c.due > bindparam("after"),
    waiters.c.due <= bindparam("until"),
)
_COUNT_LATER = (
    select(func.count())
    .select_from(waiters)
    .where(waiters.c.limit_key == _KEY, waiters.c.due > bindparam("after"))
)
_COUNT_EARLIER = (
    select(func.count())
    .select_from(waiters)
    .where(waiters.c.limit_key == _KEY, waiters.c.since < bindparam("since_"))
)
_NEXT_WAITERS = (
    select(waiters.c.job_id)
    .where(waiters.c.limit_key == _KEY, waiters.c.due > bindparam("after"))
    .order_by(waiters.c.since, waiters.c.job_id)
    .limit(bindparam("most"))
)
_MISSED_WAITERS = (
    select(waiters.c.job_id)
    .where(waiters.c.limit_key == _KEY, waiters.c.due < bindparam("before"))
    .order_by(waiters.c.since, waiters.c.job_id)
    .limit(bindparam("most"))
)
_MOVE_WAITER = update(waiters).where(_MINE).values(since=bindparam("since_"), due=bindparam("due_"))
_REMOVE_LATE_WAITERS = delete(waiters).where(
    waiters.c.limit_key == _KEY, waiters.c.due < bindparam("before")
)
_REMOVE_WAITER = delete(waiters).where(_MINE)
_REMOVE_PERMIT = delete(permits).where(
    permits.c.limit_key == _KEY, permits.c.token == bindparam("token_")
)


class DatabaseRecord:
    """The record of a key, made of its `row`.

    `rate`: the redefined rate of its name, if there is one. `ended`: whether the lease of a held
    permit has ended and its job waits to be rescued.
    """

    def __init__(self, connection: Connection, key: str, row: Row[Any], now: float) -> None:
        self._connection, self.key, self.now = connection, key, now
        self.state: Any = json.loads(row.state) if getattr(row, "state", None) else None
        self.rate = Rate(*json.loads(row.rate)) if getattr(row, "rate", None) else None
        self.at_most: int = row.at_most
        self._has_waiters = bool(row.has_waiters)
        self.ended = False

    def has_waiters(self) -> bool:
        return self._has_waiters

    def holders(self) -> Sequence[str]:
        rows = self._rows(_HOLDERS)
        for row in rows:
            if row.reserved_until is None:
                self.remove_permit(row.token)
        held = [row for row in rows if row.reserved_until is not None]
        self.ended = any(row.reserved_until <= self.now for row in held)
        return [row.token for row in held]

    def add_permit(self, holder: Holder, now: float) -> None:
        self._connection.execute(insert(permits), permit_row(self.key, holder, now))

    def remove_permit(self, token: str) -> None:
        self._connection.execute(_REMOVE_PERMIT, {"key": self.key, "token_": token})

    # --- waiters: mostly there are none, and then no statement is run -----------------------------
    def waiter(self, job_id: str) -> Waiter | None:
        rows = self._rows(_WAITER, job=job_id) if self._has_waiters else []
        return _to_waiter(rows[0]) if rows else None

    def expected(self, after: float, until: float) -> Sequence[Waiter]:
        return (
            [_to_waiter(row) for row in self._rows(_EXPECTED, after=after, until=until)]
            if self._has_waiters
            else []
        )

    def count_later(self, now: float) -> int:
        return int(self._rows(_COUNT_LATER, after=now)[0][0]) if self._has_waiters else 0

    def count_earlier(self, since: float) -> int:
        return int(self._rows(_COUNT_EARLIER, since_=since)[0][0]) if self._has_waiters else 0

    def next_waiters(self, now: float, most: int) -> Sequence[str]:
        return (
            [row.job_id for row in self._rows(_NEXT_WAITERS, after=now, most=most)]
            if self._has_waiters
            else []
        )

    def missed_waiters(self, before: float, most: int) -> Sequence[str]:
        return (
            [row.job_id for row in self._rows(_MISSED_WAITERS, before=before, most=most)]
            if self._has_waiters
            else []
        )

    def put_waiter(self, waiter: Waiter) -> None:
        moved = {
            "key": self.key,
            "job": waiter.job_id,
            "since_": waiter.since,
            "due_": waiter.due,
        }
        if self.waiter(waiter.job_id) is None:
            row = {
                "limit_key": self.key,
                "job_id": waiter.job_id,
                "since": waiter.since,
                "due": waiter.due,
            }
            self._connection.execute(insert(waiters), row)
            self._has_waiters = True
        else:
            self._connection.execute(_MOVE_WAITER, moved)

    def remove_waiter(self, job_id: str) -> None:
        self._connection.execute(_REMOVE_WAITER, {"key": self.key, "job": job_id})

    def remove_late_waiters(self, before: float) -> None:
        if self._has_waiters:
            self._connection.execute(_REMOVE_LATE_WAITERS, {"key": self.key, "before": before})

    def save(self) -> None:
        """Write the state."""
        text = None if self.state is None else json.dumps(self.state, separators=(",", ":"))
        self._connection.execute(
            update(limits).where(limits.c.limit_key == self.key).values(state=text)
        )

    def _rows(self, statement: Any, **values: Any) -> Sequence[Row[Any]]:
        return self._connection.execute(statement, {"key": self.key, **values}).all()


def permit_row(key: str, holder: Holder, now: float) -> dict[str, Any]:
    """The row of a permit."""
    job_key = int(holder.token.rpartition(".")[2])
    return {
        "limit_key": key,
        "token": holder.token,
        "job_key": job_key,
        "job_id": holder.job_id,
        "task": holder.task,
        "since": now,
    }


def _to_waiter(row: Row[Any]) -> Waiter:
    return Waiter(row.job_id, row.since, row.due)
