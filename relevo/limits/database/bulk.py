"""Many permits in one transaction of a few statements, for any number of keys.

The steps are those of `algorithms.py`, one key after another. Their data is read for all keys at
once before, and their changes are written for all keys at once behind. Keys are locked in the one
order in which keys are locked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exists, insert, select

from relevo.limits import algorithms
from relevo.limits.contract import HandoverResult, Holder, PermitHandover, PermitRequest
from relevo.limits.database.lock import lock_all
from relevo.limits.database.record import HELD, DatabaseRecord, permit_row
from relevo.limits.database.tables import jobs, limits, permits, waiters

# The most keys that one statement names.
MOST = 500

_KEYS: Any = bindparam("keys", expanding=True)
_ROWS = select(
    limits.c.limit_key,
    limits.c.at_most,
    limits.c.keep_until,
    exists().where(waiters.c.limit_key == limits.c.limit_key).label("has_waiters"),
).where(limits.c.limit_key.in_(_KEYS))
_LOCK = (
    select(limits.c.limit_key)
    .where(limits.c.limit_key.in_(_KEYS))
    .order_by(limits.c.limit_key)
    .with_for_update()
)
_HOLDERS = (
    select(permits.c.limit_key, permits.c.token, jobs.c.reserved_until)
    .select_from(permits.outerjoin(jobs, HELD))
    .where(permits.c.limit_key.in_(_KEYS))
)
_REMOVE_PERMIT = delete(permits).where(
    permits.c.limit_key == bindparam("key"), permits.c.token == bindparam("token_")
)


class PrefetchedRecord(DatabaseRecord):
    """The record of a key whose permits have been read. `_write` writes their changes."""

    def __init__(
        self, connection: Connection, row: Row[Any], tokens: Sequence[Row[Any]], now: float
    ) -> None:
        super().__init__(connection, row.limit_key, row, now)
        self.gone = [each.token for each in tokens if each.reserved_until is None]
        self._held = [each.token for each in tokens if each.reserved_until is not None]
        self.new: dict[str, Holder] = {}

    def holders(self) -> Sequence[str]:
        return list(self._held)

    def add_permit(self, holder: Holder, now: float) -> None:  # noqa: ARG002  one time for the transaction
        self._held.append(holder.token)
        self.new[holder.token] = holder

    def remove_permit(self, token: str) -> None:
        if token in self._held:
            self._held.remove(token)
            if self.new.pop(token, None) is None:
                self.gone.append(token)


def take_free(
    connection: Connection,
    wanted: Sequence[PermitRequest],
    clock: Callable[[], float],
    unused_seconds: float,
) -> set[str]:
    """Take free permits. Rows of keys are kept for `unused_seconds` after their last use."""
    taken: set[str] = set()
    groups = algorithms.by_key(wanted, lambda each: each.key)
    for start in range(0, len(groups), MOST):
        chunk = dict(groups[start : start + MOST])
        most = {key: group[-1].at_most for key, group in chunk.items()}
        before = clock()
        lock_all(connection, most, before, before + unused_seconds)
        now = clock()
        records = _read_records(connection, list(chunk), now)
        for record in records:
            taken |= algorithms.take_free(record, chunk[record.key], now)
        _write(connection, records, now)
    return taken


def hand_over(
    connection: Connection, handovers: Sequence[PermitHandover], clock: Callable[[], float]
) -> HandoverResult:
    """Give permits back, or to other jobs."""
    result = HandoverResult()
    groups = algorithms.by_key(handovers, lambda each: each.request.key)
    for start in range(0, len(groups), MOST):
        chunk = dict(groups[start : start + MOST])
        if connection.dialect.name != "sqlite":  # on SQLite the transaction is the lock
            connection.execute(_LOCK, {"keys": list(chunk)}).all()
        now = clock()
        records = _read_records(connection, list(chunk), now)
        for record in records:
            result.add(algorithms.hand_over(record, record.at_most, chunk[record.key], now))
        _write(connection, records, now)
        for key in chunk.keys() - {record.key for record in records}:  # cleared keys
            result.without.update(each.to.token for each in chunk[key] if each.to)
    return result


def _read_records(
    connection: Connection, keys: Sequence[str], now: float
) -> list[PrefetchedRecord]:
    tokens: dict[str, list[Any]] = {}
    rows = connection.execute(_ROWS, {"keys": keys}).all()
    for each in connection.execute(_HOLDERS, {"keys": keys}):
        tokens.setdefault(each.limit_key, []).append(each)
    return [PrefetchedRecord(connection, row, tokens.get(row.limit_key, ()), now) for row in rows]


def _write(connection: Connection, records: Sequence[PrefetchedRecord], now: float) -> None:
    if gone := [
        {"key": record.key, "token_": token} for record in records for token in record.gone
    ]:
        connection.execute(_REMOVE_PERMIT, gone)
    if new := [
        permit_row(record.key, holder, now) for record in records for holder in record.new.values()
    ]:
        connection.execute(insert(permits), new)
