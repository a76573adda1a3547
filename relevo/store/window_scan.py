"""Looking for rows newest first where no index has the answer: a window after the other, as long as
somebody waits.

A search for a word must read every row. A page of the dashboard doesn't wait for a million: it
looks for a moment, says how far back it has come, and goes on from there when asked to. The windows
are cut by an index alone.

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

#: Where a row stands: the instant and the number of it.
Place = tuple[float, int]
Conditions = Sequence[ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Ordering:
    """What is walked: `by` time and number of a row, or by its number alone, whose order is nearly
    the same.

    `at` and `number` are its columns; `narrow` are conditions that the index of this order knows
    the answer of. `since` and `until` are where it ends and begins: every window has at most one
    bound to each side, because SQLite seeks by the first that it is told, not by the nearest.
    """

    at: Any
    number: Any
    window: int
    narrow: tuple[ColumnElement[bool], ...] = ()
    by_time: bool = True
    since: float | None = None
    until: float | None = None

    def older_than(self, place: Place) -> ColumnElement[bool]:
        """What comes after this place. (Not as a comparison of tuples: MySQL has no index for one.)"""
        at, number = place
        if not self.by_time:
            return self.number < number
        return and_(self.at <= at, or_(self.at < at, self.number < number))

    def not_older_than(self, place: Place) -> ColumnElement[bool]:
        """What comes before this place, and what stands there."""
        at, number = place
        if not self.by_time:
            return self.number >= number
        return and_(self.at >= at, or_(self.at > at, self.number >= number))

    def below(self, place: Place | None) -> list[ColumnElement[bool]]:
        """What comes after this place, or all there is."""
        if self.until is not None and (place is None or place[0] >= self.until):
            return [self.at < self.until]
        return [] if place is None else [self.older_than(place)]

    def above(self, edge: Place | None) -> list[ColumnElement[bool]]:
        """What comes before an edge, and what stands there, or all there is."""
        if edge is not None:
            return [self.not_older_than(edge)]
        return [] if self.since is None else [self.at >= self.since]

    def order(self, query: Select[Any]) -> Select[Any]:
        return query.order_by(*([self.at.desc()] if self.by_time else []), self.number.desc())

    def sort(self, query: Select[Any]) -> Select[Any]:
        """The same order of a few rows that another index finds: no database shall walk this one to
        save a sort.
        """
        return query.order_by((self.at + 0).desc(), (self.number + 0).desc())


def rows(
    store: Store,
    way: Ordering,
    query: Select[Any],
    *,
    before: Place | None,
    limit: int,
    seconds: float,
) -> tuple[list[Row[Any]], Place | None]:
    """Up to `limit` rows of a query, and where to go on when the time was over before the end."""
    began, found = time.monotonic(), list[Row[Any]]()
    for inside, edge in _windows(store, way, before):
        wanted = way.order(query.where(*inside)).limit(limit - len(found))
        found += store.read(lambda connection, wanted=wanted: connection.execute(wanted).all())  # type: ignore[misc]
        if edge is None or len(found) >= limit:
            break
        if time.monotonic() - began > seconds:
            return found, edge
    return found, None


def count(
    store: Store, way: Ordering, conditions: Conditions, *, most: int, seconds: float
) -> tuple[int, bool]:
    """How many rows fit, up to `most`, and whether these are all: the time may be over before."""
    began, total = time.monotonic(), 0
    for inside, edge in _windows(store, way, None):
        total += count_up_to(store, select(way.number).where(*conditions, *inside), most - total)
        if edge is None or total >= most:
            break
        if time.monotonic() - began > seconds:
            return total, False
    return total, total < most


def count_up_to(store: Store, query: Select[Any], most: int) -> int:
    """How many rows a query has, or `most` if there are more: a count of millions takes its time."""
    counted = select(func.count()).select_from(query.limit(most).subquery())
    return store.read(lambda connection: int(connection.execute(counted).scalar_one()))


def _windows(
    store: Store, way: Ordering, before: Place | None
) -> Iterator[tuple[list[ColumnElement[bool]], Place | None]]:
    """The conditions on the rows of each window, and its edge; None: it has everything that is
    left.
    """
    while True:
        rest = [*way.narrow, *way.below(before)]
        all_ = select(way.at, way.number).where(*rest, *way.above(None))
        query = way.order(all_).offset(way.window - 1).limit(1)
        last = store.read(lambda connection, query=query: connection.execute(query).first())  # type: ignore[misc]
        edge = None if last is None else (float(last[0]), int(last[1]))
        yield [*rest, *way.above(edge)], edge
        if edge is None:
            return
        before = edge
