"""Many permits in one transaction of a few statements, however many keys they are of.

The steps are those of one key (`steps.py`); what they look at is read for all keys together before,
and what they change is written for all keys together behind them. Keys are locked in their order,
as by everybody who locks several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exists, insert, select

from relevo.limits import algorithms
from relevo.limits.contract import HandoverResult, Holder, PermitHandover, PermitRequest
from relevo.limits.database.lock import lock_all
from relevo.limits.database.record import HELD, DatabaseRecord, permit_row
from relevo.limits.database.tables import jobs, limits, permits, waiters

# The most that one statement names.
MOST = 500

_KEYS: Any = bindparam("keys", expanding=True)
_LOOK = select(
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
_LET_GO = delete(permits).where(
    permits.c.limit_key == bindparam("key"), permits.c.token == bindparam("token_")
)


class PrefetchedRecord(DatabaseRecord):
    """The record of a key whose permits have been read already; what changes of them is written by
    `write`.
    """

    def __init__(
        self, connection: Connection, row: Row[Any], tokens: Sequence[Row[Any]], now: float
    ) -> None:
        super().__init__(connection, row.limit_key, row, now)
        self.gone = [each.token for each in tokens if each.reserved_until is None]
        self._held = [each.token for each in tokens if each.reserved_until is not None]
        self.new: dict[str, Holder] = {}

    def holders(self) -> Sequence[str]:
        return list(self._held)

    def add_permit(self, holder: Holder, now: float) -> None:  # noqa: ARG002  that of this transaction
        self._held.append(holder.token)
        self.new[holder.token] = holder

    def remove_permit(self, token: str) -> None:
        if token in self._held:
            self._held.remove(token)
            if self.new.pop(token, None) is None:
                self.gone.append(token)


def take_free(
    connection: Connection, wanted: Sequence[PermitRequest], now: float, keep_until: float
) -> set[str]:
    """Take what is free. The rows of keys are kept until that instant if nobody uses them
    meanwhile.
    """
    taken: set[str] = set()
    groups = algorithms.by_key(wanted, lambda each: each.key)
    for start in range(0, len(groups), MOST):
        some = dict(groups[start : start + MOST])
        lock_all(
            connection, {key: those[-1].at_most for key, those in some.items()}, now, keep_until
        )
        pages = _pages(connection, list(some), now)
        for page in pages:
            taken |= algorithms.take_free(page, some[page.key], now)
        _write(connection, pages, now)
    return taken


def hand_over(connection: Connection, left: Sequence[PermitHandover], now: float) -> HandoverResult:
    """Give permits back, or to others."""
    passed = HandoverResult()
    groups = algorithms.by_key(left, lambda each: each.wanted.key)
    for start in range(0, len(groups), MOST):
        some = dict(groups[start : start + MOST])
        if connection.dialect.name != "sqlite":  # there the transaction is the lock
            connection.execute(_LOCK, {"keys": list(some)}).all()
        pages = _pages(connection, list(some), now)
        for page in pages:
            passed.add(algorithms.hand_over(page, page.at_most, some[page.key], now))
        _write(connection, pages, now)
        for key in some.keys() - {page.key for page in pages}:  # it was cleared
            passed.without.update(each.to.token for each in some[key] if each.to)
    return passed


def _pages(connection: Connection, keys: Sequence[str], now: float) -> list[PrefetchedRecord]:
    tokens: dict[str, list[Any]] = {}
    rows = connection.execute(_LOOK, {"keys": keys}).all()
    for each in connection.execute(_HOLDERS, {"keys": keys}):
        tokens.setdefault(each.limit_key, []).append(each)
    return [PrefetchedRecord(connection, row, tokens.get(row.limit_key, ()), now) for row in rows]


def _write(connection: Connection, pages: Sequence[PrefetchedRecord], now: float) -> None:
    if gone := [{"key": page.key, "token_": token} for page in pages for token in page.gone]:
        connection.execute(_LET_GO, gone)
    if new := [permit_row(page.key, holder, now) for page in pages for holder in page.new.values()]:
        connection.execute(insert(permits), new)
