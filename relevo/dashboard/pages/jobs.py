"""Jobs in every state: those to do from the broker, those that have ended from history."""

from __future__ import annotations

from typing import Any

from tornado.web import HTTPError

from relevo.dashboard import broker_jobs
from relevo.dashboard.handlers import BAD, Page, cursor
from relevo.dashboard.pages.failed import LOOKS_FOR, sought
from relevo.dashboard.pages.job_actions import BULK, TO_DO, in_queue
from relevo.drivers.contract import State
from relevo.store import history
from relevo.store import search as finding
from relevo.store.history import Ended
from relevo.store.search_syntax import Search

ROWS = 50
ENDED = {"completed": Ended.COMPLETED, "silenced": Ended.COMPLETED, "cancelled": Ended.CANCELLED}
#: Of the states of one name in history: whether those that are listed apart.
SILENCED = {"completed": False, "silenced": True}


class JobsPage(Page):
    """Jobs in a state: those to do from the broker, those that have ended from history."""

    template, title, tab = "relevo/jobs.html", "Jobs", "jobs"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        state, text, queue = (
            self.choice("state", (*TO_DO, *ENDED)),
            self.field("q").strip(),
            self.field("queue"),
        )
        search, wrong = sought(text)
        search = in_queue(search, queue)
        values = {
            "state": state,
            "q": text,
            "queue": queue,
            "wrong": wrong,
            "states": [*TO_DO, *ENDED],
            "rows": [],
            "ended": state in ENDED,
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
        self.looks_at = "The store" if state in ENDED else "The broker"
        found = (
            self._ended(state, search)
            if state in ENDED
            else self._to_do(TO_DO[state], search, queue)
        )
        return {**values, **found}

    def told(self, values: dict[str, Any]) -> dict[str, Any]:
        if values["wrong"]:
            raise HTTPError(BAD, values["wrong"])
        next_ = {"before": values["more"]} if values["ended"] else {"n": values["more"]}
        return {
            "state": values["state"],
            "jobs": [row if values["ended"] else row.told() for row in values["rows"]],
            "next": next_ if values["more"] else None,
        }

    def _to_do(self, state: State, search: Search, queue: str) -> dict[str, Any]:
        source = self.application.source
        shown = min(self.whole("n", ROWS) or ROWS, broker_jobs.DEEPEST)
        queues = [queue] if queue else source.queues()
        rows, whole = broker_jobs.listed(
            source.app, source.driver, queues, state, search, shown + 1, LOOKS_FOR
        )
        more = shown + ROWS if len(rows) > shown and shown < broker_jobs.DEEPEST else None
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
            "deepest": broker_jobs.DEEPEST,
            "total": total,
        }

    def _ended(self, state: str, search: Search) -> dict[str, Any]:
        store = self.application.source.store
        question = finding.history_query(store, search, ENDED[state], SILENCED.get(state, False))
        found, further = question.page(
            store, before=self.place(), limit=ROWS + 1, seconds=LOOKS_FOR
        )
        rows = [history.job_of(row) for row in found]
        last = (rows[ROWS - 1].ended_at, rows[ROWS - 1].id) if len(rows) > ROWS else further
        return {
            "rows": rows[:ROWS],
            "more": last and cursor(last),
            "further": further and further[0],
        }
