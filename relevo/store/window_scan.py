"""Scans rows newest first, window by window, for searches that no index answers.

A search for a word must read every row, but a page of the dashboard doesn't wait for a million of
them. It scans for a moment, says how far it has come, and continues there when it is asked to. An
index alone cuts the windows.

    newest |<- window ->|<- window ->|   ...   | oldest
           ^ before     ^ edge: the last row of the window, and `before` of the next
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select

from relevo.store.store import Store

#: The place of a row: its instant and its number.
Place = tuple[float, int]
Conditions = Sequence[ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Ordering:
    """The order of a scan: by time and number, or by number alone, which is nearly the same order.

    `at` and `number` are the columns. `narrow` are conditions that the index of this order knows.
    The scan begins before `until` and ends at `since`. Every window has at most one bound to each
    side, because SQLite seeks by the first bound that it reads, not by the nearest.
    """

    at: Any
    number: Any
    window: int
    narrow: tuple[ColumnElement[bool], ...] = ()
    by_time: bool = True
    since: float | None = None
    until: float | None = None

    def older_than(self, place: Place) -> ColumnElement[bool]:
        """Rows after this place. (Not as a comparison of tuples: MySQL uses no index for one.)"""
        at, number = place
        if not self.by_time:
            return self.number < number
        return and_(self.at <= at, or_(self.at < at, self.number < number))

    def not_older_than(self, place: Place) -> ColumnElement[bool]:
        """Rows before this place, and the row there."""
        at, number = place
        if not self.by_time:
            return self.number >= number
        return and_(self.at >= at, or_(self.at > at, self.number >= number))

    def below(self, place: Place | None) -> list[ColumnElement[bool]]:
        """Rows after this place, or all rows."""
        if self.until is not None and (place is None or place[0] >= self.until):
            return [self.at < self.until]
        return [] if place is None else [self.older_than(place)]

    def above(self, edge: Place | None) -> list[ColumnElement[bool]]:
        """Rows before an edge and the row there, or all rows."""
        if edge is not None:
            return [self.not_older_than(edge)]
        return [] if self.since is None else [self.at >= self.since]

    def order(self, query: Select[Any]) -> Select[Any]:
        """Order a query by the index."""
        return query.order_by(*([self.at.desc()] if self.by_time else []), self.number.desc())

    def sort(self, query: Select[Any]) -> Select[Any]:
        """Order a few rows that another index finds.

        The sums keep the database from scanning the index of this order to save a sort.
        """
        return query.order_by((self.at + 0).desc(), (self.number + 0).desc())


def rows(
    store: Store,
    ordering: Ordering,
    query: Select[Any],
    *,
    before: Place | None,
    limit: int,
    seconds: float,
) -> tuple[list[Row[Any]], Place | None]:
    """Return up to `limit` rows, and where to continue if the time was over before the end."""
    began, found = time.monotonic(), list[Row[Any]]()
    for inside, edge in _windows(store, ordering, before):
        wanted = ordering.order(query.where(*inside)).limit(limit - len(found))
        found += store.read(lambda connection, wanted=wanted: connection.execute(wanted).all())  # type: ignore[misc]
        if edge is None or len(found) >= limit:
            break
        if time.monotonic() - began > seconds:
            return found, edge
    return found, None


def count(
    store: Store, ordering: Ordering, conditions: Conditions, *, most: int, seconds: float
) -> tuple[int, bool]:
    """Count the rows, up to `most`, and say whether these are all: the time may be over before."""
    began, total = time.monotonic(), 0
    for inside, edge in _windows(store, ordering, None):
        query = select(ordering.number).where(*conditions, *inside)
        total += count_up_to(store, query, most - total)
        if edge is None or total >= most:
            break
        if time.monotonic() - began > seconds:
            return total, False
    return total, total < most


def count_up_to(store: Store, query: Select[Any], most: int) -> int:
    """Count the rows of a query, up to `most`: counting millions is slow."""
    counted = select(func.count()).select_from(query.limit(most).subquery())
    return store.read(lambda connection: int(connection.execute(counted).scalar_one()))


def _windows(
    store: Store, ordering: Ordering, before: Place | None
) -> Iterator[tuple[list[ColumnElement[bool]], Place | None]]:
    """Yield the conditions on the rows of each window, and its edge (None: the last window)."""
    while True:
        rest = [*ordering.narrow, *ordering.below(before)]
        all_ = select(ordering.at, ordering.number).where(*rest, *ordering.above(None))
        query = ordering.order(all_).offset(ordering.window - 1).limit(1)
        last = store.read(lambda connection, query=query: connection.execute(query).first())  # type: ignore[misc]
        edge = None if last is None else (float(last[0]), int(last[1]))
        yield [*rest, *ordering.above(edge)], edge
        if edge is None:
            return
        before = edge
