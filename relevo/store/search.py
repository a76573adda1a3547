"""A search, put to the failed store or to history: by an index where few jobs can be meant, else by
a walk.

search.parse -> Search -> in_failed, in_history -> Question
page    the jobs, and how far back it has looked
count   how many there are, as far as it has looked
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from relevo.store import search_syntax as searching
from relevo.store import watched_tags, window_scan
from relevo.store.history import Ended
from relevo.store.search_syntax import Search
from relevo.store.store import Store
from relevo.store.tables import failed, history
from relevo.store.window_scan import Ordering, Place

#: Rows of a window: those of the failed store are long, with a message and tracebacks.
FAILED_WINDOW, HISTORY_WINDOW = 2000, 20_000


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is looked for in a table: rows that fit, in a time. `few`: an index finds all there can
    be: no walk.
    """

    table: Any
    way: Ordering
    fitting: tuple[ColumnElement[bool], ...]
    times: tuple[ColumnElement[bool], ...]
    few: bool

    @property
    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """All that it says."""
        return (*self.fitting, *self.times)

    def page(
        self, store: Store, *, before: Place | None, limit: int, seconds: float
    ) -> tuple[list[Row[Any]], Place | None]:
        """Rows, newest first, and where to go on when the time was over before the end."""
        query = select(self.table)
        if not self.few:
            fitting = query.where(*self.fitting)
            return window_scan.rows(
                store, self.way, fitting, before=before, limit=limit, seconds=seconds
            )
        wanted = self.way.sort(query.where(*self.conditions, *self.way.below(before))).limit(limit)
        return list(store.read(lambda connection: connection.execute(wanted).all())), None

    def count(self, store: Store, *, most: int, seconds: float) -> tuple[int, bool]:
        """How many there are, up to `most`, and whether these are all."""
        if self.few:
            total = window_scan.count_up_to(
                store, select(self.table.c.id).where(*self.conditions), most
            )
            return total, total < most
        return window_scan.count(store, self.way, self.fitting, most=most, seconds=seconds)


def failed_query(store: Store, search: Search) -> SearchQuery:
    """Of the failed jobs that were not retried."""
    common, few = _measure_tags(store, search, failed)
    times = tuple(searching.time_conditions(search, failed.c.failed_at))
    # One index knows the order of one queue or one task.
    named = [
        failed.c[name] == value
        for name in ("task", "queue")
        for value in search.values(name)
        if "*" not in value
    ]
    way = Ordering(
        failed.c.failed_at,
        failed.c.id,
        FAILED_WINDOW,
        () if times else tuple(named[:1]),
        by_time=bool(times),
        since=search.since,
        until=search.until,
    )
    return SearchQuery(
        failed,
        way,
        (failed.c.retried_at.is_(None), *searching.failed_conditions(search, common)),
        times,
        few,
    )


def history_query(store: Store, search: Search, state: Ended, silenced: bool) -> SearchQuery:
    """Of the jobs that ended in this state; `silenced`: those that are listed apart, or the others."""
    common, few = _measure_tags(store, search, history)
    kind = (history.c.state == state.value, history.c.silenced == int(silenced))
    # Where few are meant, no database shall take the index of this kind for the better one.
    veiled = (history.c.state + "" == state.value, history.c.silenced + 0 == int(silenced))
    way = Ordering(
        history.c.ended_at,
        history.c.id,
        HISTORY_WINDOW,
        kind,
        since=search.since,
        until=search.until,
    )
    times = tuple(searching.time_conditions(search, history.c.ended_at))
    return SearchQuery(
        history,
        way,
        (*(veiled if few else kind), *searching.history_conditions(search, common)),
        times,
        few,
    )


def _measure_tags(store: Store, search: Search, table: Any) -> tuple[set[str], bool]:
    """The tags that many jobs have, and whether a tag or an id is said that few have."""
    named = [tag for tag in search.values("tag") if "*" not in tag]
    common = watched_tags.find_common(store, named)
    ids = [value for value in search.values("id") if "*" not in value.removesuffix("*")]
    few = bool(set(named) - common) or any(_is_rare(store, table, value) for value in ids)
    return common, few


def _is_rare(store: Store, table: Any, id_: str) -> bool:
    query = select(table.c.id).where(searching.id_condition(table.c.uuid, id_))
    return (
        "*" not in id_
        or window_scan.count_up_to(store, query, watched_tags.MANY) < watched_tags.MANY
    )
