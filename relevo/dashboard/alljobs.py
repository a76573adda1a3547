"""Jobs in every state: those to do from the broker, those that have ended from history."""

from __future__ import annotations

from typing import Any

from tornado.web import HTTPError

from relevo.dashboard import looks, waiting
from relevo.dashboard.failures import sought
from relevo.dashboard.pages import BAD, Action, Page
from relevo.dashboard.pauses import OfQueue
from relevo.drivers.contract import State
from relevo.errors import OptionError
from relevo.job import cancel, clearing
from relevo.store import history, watched
from relevo.store import search as searching
from relevo.store.history import Ended, EndedJob
from relevo.store.search import Search

ROWS = 50
#: Seconds for which is looked, about, before the page says how far back it has come.
LOOKS_FOR = 0.15
MOST_PICKED = 1000
#: Name in the url -> state in the broker.
TO_DO = {"pending": State.PENDING, "delayed": State.DELAYED, "running": State.RESERVED}
ENDED = {"completed": Ended.COMPLETED, "silenced": Ended.COMPLETED, "cancelled": Ended.CANCELLED}
#: Of the states of one name in history: whether those that are listed apart.
SILENCED = {"completed": False, "silenced": True}


class JobsPage(Page):
    """/jobs?state=…&queue=…&q=…"""

    template, title, tab = "relevo/jobs.html", "Jobs", "jobs"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        state, text, queue = self.field("state") or "pending", self.field("q").strip(), self.field("queue")
        if state not in {**TO_DO, **ENDED}:
            raise HTTPError(BAD, f"expected state to be one of {', '.join({**TO_DO, **ENDED})}")
        search, wrong = sought(text)
        if queue:
            search = Search((*search.terms, ("queue", queue)), search.words, search.since, search.until)
        values = {"state": state, "q": text, "queue": queue, "wrong": wrong, "states": [*TO_DO, *ENDED], "rows": [],
                  "ended": state in ENDED, "more": None, "before": self.field("before"), "now": 0.0,
                  "further": None}  # fmt: skip
        if wrong:
            return values
        self.looks_at = "The store" if state in ENDED else "The broker"
        found = self._ended(state, search) if state in ENDED else self._to_do(TO_DO[state], search, queue)
        return {**values, **found}

    def told(self, values: dict[str, Any]) -> dict[str, Any]:
        if values["wrong"]:
            raise OptionError(values["wrong"])
        next_ = {"before": values["more"]} if values["ended"] else {"n": values["more"]}
        return {"state": values["state"], "jobs": [row if values["ended"] else row.told() for row in values["rows"]],
                "next": next_ if values["more"] else None}  # fmt: skip

    def _to_do(self, state: State, search: Search, queue: str) -> dict[str, Any]:
        source = self.application.source
        shown = min(self.whole("n", ROWS) or ROWS, waiting.DEEPEST)
        queues = [queue] if queue else source.queues()
        rows = waiting.listed(source.app, source.driver, queues, state, search, shown + 1)
        more = shown + ROWS if len(rows) > shown and shown < waiting.DEEPEST else None
        return {"rows": rows[:shown], "more": more, "now": source.driver.now()}

    def _ended(self, state: str, search: Search) -> dict[str, Any]:
        store = self.application.source.store
        common = watched.are_common(store, [value for name, value in search.terms if name == "tag"])
        conditions = searching.of_history(search, common)
        before, silenced, further = self._before(), SILENCED.get(state), None
        if search.reads_all:
            rows, further = history.walk(store, ENDED[state], conditions, before=before, limit=ROWS + 1,
                                         silenced=silenced, seconds=LOOKS_FOR)  # fmt: skip
        else:
            rows = history.page(store, ENDED[state], before=before, limit=ROWS + 1, also=conditions, silenced=silenced)
        last = rows[ROWS - 1] if len(rows) > ROWS else further
        return {"rows": rows[:ROWS], "more": last and f"{last.ended_at!r}:{last.id}",
                "further": further.ended_at if further else None}  # fmt: skip

    def _before(self) -> EndedJob | None:
        """The last job of the page before: only when it ended, and its number."""
        given = self.field("before")
        try:
            at, _, number = given.partition(":")
            return EndedJob("", "", "", "", Ended.COMPLETED, 0, float(at), id=int(number)) if given else None
        except ValueError as error:
            raise HTTPError(BAD, "expected before to be what the link to the next page says") from error


class OfJobs(Action):
    """An action on jobs in the broker that were picked."""

    def ids(self) -> list[str]:
        """Their ids. Raises OptionError."""
        picked = list(dict.fromkeys(self.get_arguments("id", strip=False)))
        if not picked or len(picked) > MOST_PICKED:
            raise OptionError(f"expected 1 to {MOST_PICKED} jobs to be picked, got {len(picked)}")
        return picked

    def target(self, *_arguments: str) -> str:
        return "jobs " + ", ".join(self.get_arguments("id", strip=False)[:MOST_PICKED])


class CancelJobs(OfJobs):
    """Cancel jobs, wherever they are: those that wait are withdrawn, what runs goes on to its end and not again."""

    name = "cancel"
    terminate = False

    def act(self, *_arguments: str) -> str:
        source = self.application.source
        done = cancel.cancel(source.app, source.driver, source.store, self.ids(), terminate=self.terminate)
        said = f"{looks.counted(len(done.withdrawn) + len(done.killed), 'job')} cancelled."
        return said + (f" {len(done.running)} run to their end, and not again." if done.running else "")


class StopJobs(CancelJobs):
    """Cancel them, and kill the processes of those that run."""

    name = "stop"
    terminate = True


class HastenJobs(OfJobs):
    """Let delayed jobs run now."""

    name = "run now"

    def act(self, *_arguments: str) -> str:
        return f"{looks.counted(self.application.source.driver.hasten(self.ids()), 'delayed job')} may run now."


class ClearQueue(OfQueue):
    """Delete what waits in a queue."""

    name = "clear queue"

    def act(self, *_arguments: str) -> str:
        queue, source = self.queue(), self.application.source
        return f"{looks.counted(clearing.clear(source.app, source.driver, queue), 'job')} of {queue} deleted."
