"""Jobs that have failed for good: search, retry, retry with other arguments, forget."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

from sqlalchemy import Row
from tornado.web import HTTPError

from relevo.dashboard import formatting
from relevo.dashboard.handlers import BAD, Action, Page, cursor
from relevo.errors import OptionError
from relevo.operations import retry
from relevo.store import failed, search_syntax
from relevo.store import search as store_search
from relevo.store.failed import FailedJob, Filter
from relevo.store.search_syntax import Search

ROWS = 50
#: The most jobs that are counted exactly.
MOST_COUNTED = 10_000
#: About how long one request searches and counts. Then the page shows how far back it has searched.
SEARCH_SECONDS, COUNT_SECONDS = 0.12, 0.06
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOST_PICKED = 1000
MOST_DIGITS = 18
#: Why a failed job is not put back.
NOT_SENT = "retried already, forgotten, or another job has the unique key"


class FailedPage(Page):
    """Failed jobs that have not been retried, newest first."""

    template, title, tab = "relevo/failed.html", "Failed jobs", "failed"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        store, text = self.application.source.store, self.field("q").strip()
        search, wrong = parse_search(text)
        before, further, count, whole = self.place(), None, 0, True
        rows: list[Row[Any]] = []
        if not wrong:
            question = store_search.failed_query(store, search)
            rows, further = question.page(
                store, before=before, limit=ROWS + 1, seconds=SEARCH_SECONDS
            )
            count, whole = self.application.source.cached(
                ("failed", text),
                2,
                lambda: question.count(store, most=MOST_COUNTED, seconds=COUNT_SECONDS),
            )
        last = (rows[ROWS - 1].failed_at, rows[ROWS - 1].id) if len(rows) > ROWS else further
        jobs = [failed.job_of(row) for row in rows[:ROWS]]
        return {
            "rows": jobs,
            "more": last and cursor(last),
            "further": further and further[0],
            "before": before,
            "q": text,
            "wrong": wrong,
            "count": max(count, len(jobs)),
            "many": not whole,
            "searching": bool(search),
            "is_id": _UUID.fullmatch(text) is not None,
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        if values["wrong"]:
            raise HTTPError(BAD, values["wrong"])
        return {
            "jobs": [failed_job_json(job) for job in values["rows"]],
            "count": values["count"],
            "more": values["many"],
            "next": {"before": values["more"]} if values["more"] else None,
        }


def failed_job_json(job: FailedJob) -> dict[str, Any]:
    """A failed job as JSON: every field except its message."""
    return {each.name: getattr(job, each.name) for each in fields(job) if each.name != "payload"}


def parse_search(text: str) -> tuple[Search, str]:
    """The search in a text, and an error message if there is an error in it."""
    try:
        return search_syntax.parse(text), ""
    except OptionError as error:
        return Search(), str(error)


class FailedAction(Action):
    """An action on the picked failed jobs, or on all that a search finds."""

    def selection(self) -> Filter:
        """The filter for the jobs of the action. Raises OptionError."""
        if self.field("all"):
            question = store_search.failed_query(
                self.application.source.store, search_syntax.parse(self.field("q"))
            )
            return Filter(also=question.conditions)
        picked = self.get_arguments("id")
        if not picked or len(picked) > MOST_PICKED:
            raise OptionError(f"expected 1 to {MOST_PICKED} jobs to be picked, got {len(picked)}")
        if not all(number.isdecimal() and len(number) <= MOST_DIGITS for number in picked):
            raise OptionError("expected the numbers of failed jobs")
        return Filter(ids=[int(number) for number in picked])

    def target(self, *_arguments: str) -> str:
        if self.field("all"):
            return (
                f"all failed jobs that fit: {self.field('q')}"
                if self.field("q")
                else "all failed jobs"
            )
        return "failed jobs " + ", ".join(self.get_arguments("id")[:MOST_PICKED])


class RetryFailed(FailedAction):
    """Put failed jobs back into their queues."""

    name = "retry"

    def act(self, *_arguments: str) -> str:
        count = retry.retry_failed(
            self.application.capp, self.application.source.store, self.selection()
        )
        return (
            f"{formatting.counted(count, 'job')} put back."
            if count
            else f"No job put back: {NOT_SENT}."
        )


class ForgetFailed(FailedAction):
    """Delete failed jobs from the store."""

    name = "forget"

    def act(self, *_arguments: str) -> str:
        store = self.application.source.store
        everything = self.field("all") and not self.field("q").strip()
        count = failed.flush(store) if everything else failed.forget(store, self.selection())
        return f"{formatting.counted(count, 'failed job')} forgotten."


class EditFailed(Action):
    """Put a failed job back with other arguments."""

    name = "edit and retry"

    def target(self, *arguments: str) -> str:
        return f"failed job {arguments[0]}"  # Without its new arguments: some may be redacted.

    def act(self, *arguments: str) -> str:
        args = _json("arguments", self.field("args") or "[]", list)
        kwargs = _json("keyword arguments", self.field("kwargs") or "{}", dict)
        source = self.application.source
        if not retry.retry_with_arguments(
            self.application.capp, source.store, int(arguments[0]), args, kwargs
        ):
            return f"Not put back: {NOT_SENT}."
        return "Put back with the new arguments."


def _json(what: str, text: str, kind: type) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError(f"expected the {what} to be JSON: {error}") from error
    if not isinstance(value, kind):
        wanted = "list" if kind is list else "object"
        raise OptionError(f"expected the {what} to be a JSON {wanted}, got {text[:60]!r}")
    return value
