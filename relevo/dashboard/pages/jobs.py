"""Jobs by state: pending, delayed and running ones from the broker, ended ones from the history."""

from __future__ import annotations

from typing import Any

from tornado.web import HTTPError

from relevo.dashboard import broker_jobs
from relevo.dashboard.handlers import BAD, Page, cursor
from relevo.dashboard.pages.failed import SEARCH_SECONDS, parse_search
from relevo.dashboard.pages.job_actions import BROKER_STATES, BULK, with_queue
from relevo.drivers.contract import State
from relevo.store import history
from relevo.store import search as store_search
from relevo.store.history import Ended
from relevo.store.search_syntax import Search

ROWS = 50
HISTORY_STATES = {
    "completed": Ended.COMPLETED,
    "silenced": Ended.COMPLETED,
    "cancelled": Ended.CANCELLED,
}
#: Whether a state lists the silenced jobs, which are listed apart, or the others.
SILENCED = {"completed": False, "silenced": True}


class JobsPage(Page):
    """Jobs in a state: from the broker, or from the history if they have ended."""

    template, title, tab = "relevo/jobs.html", "Jobs", "jobs"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        state, text, queue = (
            self.choice("state", (*BROKER_STATES, *HISTORY_STATES)),
            self.field("q").strip(),
            self.field("queue"),
        )
        search, wrong = parse_search(text)
        search = with_queue(search, queue)
        values = {
            "state": state,
            "q": text,
            "queue": queue,
            "wrong": wrong,
            "states": [*BROKER_STATES, *HISTORY_STATES],
            "rows": [],
            "ended": state in HISTORY_STATES,
            "more": None,
            "before": self.field("before"),
            "now": 0.0,
            "further": None,
            "whole": True,
            "total": None,
            "bulk": state in BULK and not wrong,
        }
        if wrong:
            return values
        self.server_name = "The store" if state in HISTORY_STATES else "The broker"
        found = (
            self._history_rows(state, search)
            if state in HISTORY_STATES
            else self._broker_rows(BROKER_STATES[state], search, queue)
        )
        return {**values, **found}

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        if values["wrong"]:
            raise HTTPError(BAD, values["wrong"])
        next_ = {"before": values["more"]} if values["ended"] else {"n": values["more"]}
        return {
            "state": values["state"],
            "jobs": [row if values["ended"] else row.as_json() for row in values["rows"]],
            "next": next_ if values["more"] else None,
        }

    def _broker_rows(self, state: State, search: Search, queue: str) -> dict[str, Any]:
        source = self.application.source
        shown = min(self.whole_number("n", ROWS) or ROWS, broker_jobs.MOST_SEARCHED)
        queues = [queue] if queue else source.queues()
        rows, whole = broker_jobs.list_jobs(
            source.app, source.driver, queues, state, search, shown + 1, SEARCH_SECONDS
        )
        more = shown + ROWS if len(rows) > shown and shown < broker_jobs.MOST_SEARCHED else None
        counted = more and not self.field("q").strip()
        total = (
            sum(getattr(source.driver.sizes(name), state.value) for name in queues)
            if counted
            else None
        )
        return {
            "rows": rows[:shown],
            "more": more,
            "now": source.driver.now(),
            "whole": whole or not search,
            "deepest": broker_jobs.MOST_SEARCHED,
            "total": total,
        }

    def _history_rows(self, state: str, search: Search) -> dict[str, Any]:
        store = self.application.source.store
        question = store_search.history_query(
            store, search, HISTORY_STATES[state], SILENCED.get(state, False)
        )
        found, further = question.page(
            store, before=self.place(), limit=ROWS + 1, seconds=SEARCH_SECONDS
        )
        rows = [history.job_of(row) for row in found]
        last = (rows[ROWS - 1].ended_at, rows[ROWS - 1].id) if len(rows) > ROWS else further
        return {
            "rows": rows[:ROWS],
            "more": last and cursor(last),
            "further": further and further[0],
        }
