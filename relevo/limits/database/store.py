"""`contract.Limits` in the database of the jobs.

Each verb is one transaction that locks its key's row first; what happens there is in `steps.py`.
Whether a permit is held is asked of `relevo_jobs`, in the same transaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, delete, event, exists, insert, select

from relevo.database.connections import Connections
from relevo.limits import algorithms, breakers
from relevo.limits.breakers import Breaker
from relevo.limits.contract import (
    HandoverResult,
    Holder,
    Limits,
    LimitView,
    PermitHandover,
    PermitRequest,
    check_key,
    name_of,
)
from relevo.limits.database import bulk, queries
from relevo.limits.database.lock import lock
from relevo.limits.database.record import DatabaseRecord
from relevo.limits.database.tables import limits, permits, rates, waiters
from relevo.limits.rates import Rate
from relevo.limits.waiters import FIRST

Result = TypeVar("Result")

# How often a process looks for keys that nobody uses any more, and how long they stay, in seconds.
TIDY, UNUSED = 60.0, 3600.0

_KEY = limits.c.limit_key == bindparam("key")
# All that one look can tell, for the round trips: the state, a rate of the key's name, whether
# anybody is in line.
_LOOK = select(
    limits.c.state,
    limits.c.at_most,
    limits.c.keep_until,
    select(rates.c.rate).where(rates.c.name == bindparam("name")).scalar_subquery().label("rate"),
    exists().where(waiters.c.limit_key == bindparam("key")).label("has_waiters"),
).where(_KEY)
_LOCK = select(limits.c.limit_key).where(_KEY).with_for_update()


class DatabaseLimits(Limits):
    """Limits in the database at `url`, whose driver tells the time (`now`) and brings back ended
    leases (`rescue`).
    """

    def __init__(self, url: str, now: Callable[[], float], rescue: Callable[[], int]) -> None:
        self._connections = Connections(url)
        #: SQLite: whoever has begun to write is alone.
        self._has_one_writer = self._connections.dialect == "sqlite"
        if self._has_one_writer:
            event.listen(self._connections.engine, "connect", _lightly)
        self._now, self._rescue = now, rescue
        self._tidied = time.monotonic()

    # --- permits ----------------------------------------------------------------------------------
    def take(self, key: str, at_most: int, holder: Holder) -> float:
        def take(_connection: Connection, record: DatabaseRecord) -> float | None:
            wait = algorithms.take(record, at_most, holder, record.now)
            return None if wait and record.ended else wait

        wait = self._locked(key, take, at_most=at_most)
        if (
            wait is None
        ):  # a lease that has ended is not counted out here: its holder may be late, and extend it
            self._rescue()
            wait = self._locked(key, take, at_most=at_most)
        self._tidy()
        return FIRST if wait is None else wait

    def release(self, key: str, holder: Holder) -> list[str]:
        check_key(key)

        def release(connection: Connection) -> list[str]:
            if not self._has_one_writer and not connection.execute(_LOCK, {"key": key}).first():
                return []
            # In a statement of its own: what waits for a lock looks with the eyes of the moment
            # before.
            row = connection.execute(_LOOK, {"key": key, "name": ""}).first()
            if row is None:
                return []
            record = DatabaseRecord(connection, key, row, self._now())
            return algorithms.release(record, record.at_most, holder, record.now)

        return self._connections.write(release)

    def take_free(self, wanted: Sequence[PermitRequest]) -> set[str]:
        now = self._now()
        taken = self._connections.write(
            lambda connection: bulk.take_free(connection, wanted, now, now + UNUSED)
        )
        self._tidy()
        return taken

    def hand_over(self, left: Sequence[PermitHandover]) -> HandoverResult:
        return self._connections.write(
            lambda connection: bulk.hand_over(connection, left, self._now())
        )

    # --- rates and breakers -----------------------------------------------------------------------
    def hit(self, key: str, rate: Rate, cost: float, job_id: str) -> float:
        def hit(_connection: Connection, record: DatabaseRecord) -> float:
            wait = algorithms.hit(record, record.rate or rate, cost, job_id, record.now)
            if not wait:
                record.save()
            return wait

        wait = self._locked(key, hit, keep=rate.per)
        self._tidy()
        return wait

    def refund(self, key: str, rate: Rate, cost: float) -> list[str]:
        def refund(_connection: Connection, record: DatabaseRecord) -> list[str]:
            called = algorithms.refund(record, cost, record.now)
            record.save()
            return called

        return self._locked(key, refund, keep=rate.per)

    def redefine(self, name: str, rate: Rate | None) -> list[str]:
        def redefine(connection: Connection) -> None:
            connection.execute(delete(rates).where(rates.c.name == name))
            if rate is not None:
                connection.execute(insert(rates), {"name": name, "rate": json.dumps(rate.fields())})

        self._connections.write(redefine)
        # Behind the commit: whoever comes from now on is told by the new one.
        return self._connections.read(lambda connection: queries.waiting(connection, name))

    def redefined_rates(self) -> dict[str, Rate]:
        rows = self._connections.read(lambda connection: connection.execute(select(rates)).all())
        return {row.name: Rate(*json.loads(row.rate)) for row in rows}

    def check_breaker(self, key: str, job_id: str) -> tuple[float, bool]:
        check_key(key)
        row = self._connections.read(
            lambda connection: connection.execute(_LOOK, {"key": key, "name": ""}).first()
        )
        if row is None or not (
            row.has_waiters
            or (row.state and breakers.seconds_left(json.loads(row.state), self._now()))
        ):
            return 0.0, bool(row and row.state)
        # It stands in line, or is about to: that is written. The errors are kept for as long as
        # they were to be.
        keep = max(0.0, row.keep_until - self._now() - UNUSED)
        return self._locked(
            key,
            lambda _connection, record: algorithms.check_breaker(record, job_id, record.now),
            keep=keep,
        )

    def record_error(self, key: str, breaker: Breaker) -> float:
        def erred(_connection: Connection, record: DatabaseRecord) -> float:
            wait = algorithms.record_error(record, breaker, record.now)
            record.save()
            return wait

        return self._locked(key, erred, keep=breaker.per + breaker.wait)

    # --- looking and mending ----------------------------------------------------------------------
    def views(self, prefix: str = "", most: int = 1000) -> list[LimitView]:
        now = self._now()
        return self._connections.read(
            lambda connection: queries.views(connection, prefix, most, now)
        )

    def clear(self, key: str) -> list[str]:
        def clear(connection: Connection, _record: DatabaseRecord) -> list[str]:
            waiting = (
                select(waiters.c.job_id).where(waiters.c.limit_key == key).order_by(waiters.c.since)
            )
            called = list(connection.execute(waiting).scalars())
            for table in (permits, waiters, limits):
                connection.execute(delete(table).where(table.c.limit_key == key))
            return called

        return self._locked(key, clear)

    # --- the key's lock ---------------------------------------------------------------------------
    def _locked(
        self,
        key: str,
        work: Callable[[Connection, DatabaseRecord], Result],
        keep: float = 0,
        at_most: int | None = None,
    ) -> Result:
        check_key(key)

        def locked(connection: Connection) -> Result:
            now, asked = self._now(), {"key": key, "name": name_of(key)}
            row = connection.execute(_LOOK, asked).first() if self._has_one_writer else None
            # Where the transaction is the lock, a row that is as it should be needs no writing.
            fresh = row is not None and row.keep_until > now + keep + UNUSED / 2
            if row is None or not fresh or at_most not in (None, row.at_most):
                lock(connection, key, now + UNUSED + keep, at_most)
                row = connection.execute(_LOOK, asked).one()
            return work(connection, DatabaseRecord(connection, key, row, now))

        return self._connections.write(locked)

    def _tidy(self) -> None:
        """Forget keys that nobody has used for long, now and then."""
        if time.monotonic() - self._tidied < TIDY:
            return
        self._tidied = time.monotonic()
        self.forget_unused()

    def forget_unused(self) -> None:
        """Forget what nobody uses any more."""
        now = self._now()
        self._connections.write(lambda connection: queries.forget_unused(connection, now))


def _lightly(connection: Any, _record: Any) -> None:
    """Permits die with leases and counts with their period: a power cut may cost the last ones, a
    commit no fsync.
    """
    connection.execute("PRAGMA synchronous = NORMAL")
