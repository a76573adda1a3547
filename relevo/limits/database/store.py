"""`contract.Limits` in the database of the jobs.

Each verb is one transaction that first locks the row of its key; the steps are in `algorithms.py`.
Whether a permit is held is looked up in `relevo_jobs`, in the same transaction.

What happens under a lock goes by the time at which the lock was got. A transaction that waited for
a second would otherwise enter its units as a second old, and a moving window would let more through
than its rate.
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

# Seconds between two searches of a process for unused keys, and for which unused keys are kept.
TIDY_SECONDS, UNUSED_SECONDS = 60.0, 3600.0

_KEY = limits.c.limit_key == bindparam("key")
# In one round trip: the key's row, the redefined rate of its name, and whether jobs wait.
_ROW = select(
    limits.c.state,
    limits.c.at_most,
    limits.c.keep_until,
    select(rates.c.rate).where(rates.c.name == bindparam("name")).scalar_subquery().label("rate"),
    exists().where(waiters.c.limit_key == bindparam("key")).label("has_waiters"),
).where(_KEY)
_LOCK = select(limits.c.limit_key).where(_KEY).with_for_update()


class DatabaseLimits(Limits):
    """The limits in the database at `url`, with the time (`now`) and the `rescue` of its driver."""

    def __init__(self, url: str, now: Callable[[], float], rescue: Callable[[], int]) -> None:
        self._connections = Connections(url)
        #: SQLite has one writer at a time.
        self._has_one_writer = self._connections.dialect == "sqlite"
        if self._has_one_writer:
            event.listen(self._connections.engine, "connect", _commit_without_fsync)
        self._now, self._rescue = now, rescue
        self._tidied = time.monotonic()

    # --- permits ----------------------------------------------------------------------------------
    def take(self, key: str, at_most: int, holder: Holder) -> float:
        def take(_connection: Connection, record: DatabaseRecord) -> float | None:
            wait = algorithms.take(record, at_most, holder, record.now)
            return None if wait and record.ended else wait

        wait = self._locked(key, take, at_most=at_most)
        # The permit of an ended lease is not free before the rescue: its late holder may extend it.
        if wait is None:
            self._rescue()
            wait = self._locked(key, take, at_most=at_most)
        self._tidy()
        return FIRST if wait is None else wait

    def release(self, key: str, holder: Holder) -> list[str]:
        check_key(key)

        def release(connection: Connection) -> list[str]:
            if not self._has_one_writer and not connection.execute(_LOCK, {"key": key}).first():
                return []
            # A statement of its own: one that waits for a lock sees the rows of before the wait.
            row = connection.execute(_ROW, {"key": key, "name": ""}).first()
            if row is None:
                return []
            record = DatabaseRecord(connection, key, row, self._now())
            return algorithms.release(record, record.at_most, holder, record.now)

        return self._connections.write(release)

    def take_free(self, wanted: Sequence[PermitRequest]) -> set[str]:
        taken = self._connections.write(
            lambda connection: bulk.take_free(connection, wanted, self._now, UNUSED_SECONDS)
        )
        self._tidy()
        return taken

    def hand_over(self, handovers: Sequence[PermitHandover]) -> HandoverResult:
        return self._connections.write(
            lambda connection: bulk.hand_over(connection, handovers, self._now)
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
        # After the commit: jobs that come from now on go by the new rate.
        return self._connections.read(lambda connection: queries.waiting(connection, name))

    def redefined_rates(self) -> dict[str, Rate]:
        rows = self._connections.read(lambda connection: connection.execute(select(rates)).all())
        return {row.name: Rate(*json.loads(row.rate)) for row in rows}

    def check_breaker(self, key: str, job_id: str) -> tuple[float, bool]:
        check_key(key)
        row = self._connections.read(
            lambda connection: connection.execute(_ROW, {"key": key, "name": ""}).first()
        )
        if row is None or not (
            row.has_waiters
            or (row.state and breakers.seconds_left(json.loads(row.state), self._now()))
        ):
            return 0.0, bool(row and row.state)
        # The job waits already, or must wait now: that is a write. The errors are kept as long as
        # before.
        keep = max(0.0, row.keep_until - self._now() - UNUSED_SECONDS)
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

    # --- inspection and repair --------------------------------------------------------------------
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
            row = connection.execute(_ROW, asked).first() if self._has_one_writer else None
            # On SQLite the transaction is the lock, so a row that is right needs no write.
            fresh = row is not None and row.keep_until > now + keep + UNUSED_SECONDS / 2
            if row is None or not fresh or at_most not in (None, row.at_most):
                lock(connection, key, now + UNUSED_SECONDS + keep, at_most)
                row = connection.execute(_ROW, asked).one()
                now = self._now()
            return work(connection, DatabaseRecord(connection, key, row, now))

        return self._connections.write(locked)

    def _tidy(self) -> None:
        """Delete unused rows, once in TIDY_SECONDS."""
        if time.monotonic() - self._tidied < TIDY_SECONDS:
            return
        self._tidied = time.monotonic()
        self.forget_unused()

    def forget_unused(self) -> None:
        """Delete unused rows of permits, waiters and keys."""
        now = self._now()
        self._connections.write(lambda connection: queries.forget_unused(connection, now))


def _commit_without_fsync(connection: Any, _record: Any) -> None:
    """Commit without an fsync: a power cut may lose the last permits and counts.

    Permits end with their leases anyway, and counts with their period.
    """
    connection.execute("PRAGMA synchronous = NORMAL")
