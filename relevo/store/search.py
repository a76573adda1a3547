"""Searches the failed store or history: by an index if it finds few jobs, otherwise by a scan.

search_syntax.parse           text   -> Search
failed_query, history_query   Search -> SearchQuery
SearchQuery.page              the jobs, and where to continue
SearchQuery.count             how many jobs there are, as far as it got in its time
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from relevo.store import search_syntax, watched_tags, window_scan
from relevo.store.history import Ended
from relevo.store.search_syntax import Search
from relevo.store.store import Store
from relevo.store.tables import failed, history
from relevo.store.window_scan import Ordering, Place

#: Rows a window. Those of the failed store are long, with a message and tracebacks.
FAILED_WINDOW, HISTORY_WINDOW = 2000, 20_000


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A search in one table. `indexed`: an index finds all its rows, so it needs no scan."""

    table: Any
    ordering: Ordering
    fitting: tuple[ColumnElement[bool], ...]
    times: tuple[ColumnElement[bool], ...]
    indexed: bool

    @property
    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """All conditions of the search."""
        return (*self.fitting, *self.times)

    def page(
        self, store: Store, *, before: Place | None, limit: int, seconds: float
    ) -> tuple[list[Row[Any]], Place | None]:
        """Return rows, newest first, and where to continue if the time was over before the end."""
        query = select(self.table)
        if not self.indexed:
            fitting = query.where(*self.fitting)
            return window_scan.rows(
                store, self.ordering, fitting, before=before, limit=limit, seconds=seconds
            )
        found = query.where(*self.conditions, *self.ordering.below(before))
        wanted = self.ordering.sort(found).limit(limit)
        return list(store.read(lambda connection: connection.execute(wanted).all())), None

    def count(self, store: Store, *, most: int, seconds: float) -> tuple[int, bool]:
        """Count the rows, up to `most`, and say whether these are all."""
        if self.indexed:
            total = window_scan.count_up_to(
                store, select(self.table.c.id).where(*self.conditions), most
            )
            return total, total < most
        return window_scan.count(store, self.ordering, self.fitting, most=most, seconds=seconds)


def failed_query(store: Store, search: Search) -> SearchQuery:
    """Search the failed jobs that were not retried."""
    common, indexed = _measure_tags(store, search, failed)
    times = tuple(search_syntax.time_conditions(search, failed.c.failed_at))
    # An index has the order of the jobs of one queue or one task.
    named = [
        failed.c[name] == value
        for name in ("task", "queue")
        for value in search.values(name)
        if "*" not in value
    ]
    ordering = Ordering(
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
        ordering,
        (failed.c.retried_at.is_(None), *search_syntax.failed_conditions(search, common)),
        times,
        indexed,
    )


def history_query(store: Store, search: Search, state: Ended, silenced: bool) -> SearchQuery:
    """Search the jobs that ended in this state, of the silenced jobs or of the others."""
    common, indexed = _measure_tags(store, search, history)
    kind = (history.c.state == state.value, history.c.silenced == int(silenced))
    # With these conditions the database can't choose the index of the kind over that of the tag.
    veiled = (history.c.state + "" == state.value, history.c.silenced + 0 == int(silenced))
    ordering = Ordering(
        history.c.ended_at,
        history.c.id,
        HISTORY_WINDOW,
        kind,
        since=search.since,
        until=search.until,
    )
    times = tuple(search_syntax.time_conditions(search, history.c.ended_at))
    return SearchQuery(
        history,
        ordering,
        (*(veiled if indexed else kind), *search_syntax.history_conditions(search, common)),
        times,
        indexed,
    )


def _measure_tags(store: Store, search: Search, table: Any) -> tuple[set[str], bool]:
    """Return the tags of many jobs, and whether the search has a tag or an id of few jobs."""
    named = [tag for tag in search.values("tag") if "*" not in tag]
    common = watched_tags.find_common(store, named)
    ids = [value for value in search.values("id") if "*" not in value.removesuffix("*")]
    indexed = bool(set(named) - common) or any(_is_rare(store, table, value) for value in ids)
    return common, indexed


def _is_rare(store: Store, table: Any, id_: str) -> bool:
    query = select(table.c.id).where(search_syntax.id_condition(table.c.uuid, id_))
    return (
        "*" not in id_
        or window_scan.count_up_to(store, query, watched_tags.MANY) < watched_tags.MANY
    )
