"""Jobs that have failed for good: found, put back, put back with other arguments, forgotten."""

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
from relevo.store import failed
from relevo.store import search as finding
from relevo.store import search_syntax as searching
from relevo.store.failed import FailedJob, Filter
from relevo.store.search_syntax import Search

ROWS = 50
#: Counted exactly up to so many.
COUNTED = 10_000
#: Seconds for which is looked, and counted, about, before the page says how far back it has come.
LOOKS_FOR, COUNTS_FOR = 0.12, 0.06
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOST_PICKED = 1000
MOST_DIGITS = 18
#: Why a failed job isn't put back.
NOT_SENT = "retried already, forgotten, or another job has the unique key"


class FailedPage(Page):
    """Failed jobs that nobody has retried, newest first."""

    template, title, tab = "relevo/failed.html", "Failed jobs", "failed"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        store, text = self.application.source.store, self.field("q").strip()
        search, wrong = sought(text)
        before, further, count, whole = self.place(), None, 0, True
        rows: list[Row[Any]] = []
        if not wrong:
            question = finding.failed_query(store, search)
            rows, further = question.page(store, before=before, limit=ROWS + 1, seconds=LOOKS_FOR)
            count, whole = self.application.source.remembered(
                ("failed", text), 2, lambda: question.count(store, most=COUNTED, seconds=COUNTS_FOR)
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

    def told(self, values: dict[str, Any]) -> dict[str, Any]:
        if values["wrong"]:
            raise HTTPError(BAD, values["wrong"])
        return {
            "jobs": [told_of(job) for job in values["rows"]],
            "count": values["count"],
            "more": values["many"],
            "next": {"before": values["more"]} if values["more"] else None,
        }


def told_of(job: FailedJob) -> dict[str, Any]:
    """What a program is told of a failed job: all but its message."""
    return {each.name: getattr(job, each.name) for each in fields(job) if each.name != "payload"}


def sought(text: str) -> tuple[Search, str]:
    """The search that was typed, or what is wrong with it."""
    try:
        return searching.parse(text), ""
    except OptionError as error:
        return Search(), str(error)


class OfFailed(Action):
    """An action on the failed jobs that were picked, or on all that a search finds."""

    def which(self) -> Filter:
        """The jobs that are meant. Raises OptionError."""
        if self.field("all"):
            question = finding.failed_query(
                self.application.source.store, searching.parse(self.field("q"))
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


class RetryFailed(OfFailed):
    """Put them back to where they came from."""

    name = "retry"

    def act(self, *_arguments: str) -> str:
        count = retry.retry_failed(
            self.application.capp, self.application.source.store, self.which()
        )
        return (
            f"{formatting.counted(count, 'job')} put back."
            if count
            else f"No job put back: {NOT_SENT}."
        )


class ForgetFailed(OfFailed):
    """Delete them from the failed store."""

    name = "forget"

    def act(self, *_arguments: str) -> str:
        store = self.application.source.store
        everything = self.field("all") and not self.field("q").strip()
        count = failed.flush(store) if everything else failed.forget(store, self.which())
        return f"{formatting.counted(count, 'failed job')} forgotten."


class EditFailed(Action):
    """Put one back with other arguments."""

    name = "edit and retry"

    def target(self, *arguments: str) -> str:
        return f"failed job {arguments[0]}"  # not its new arguments: nobody may see some of them

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
        raise OptionError(
            f"expected the {what} to be a JSON {'list' if kind is list else 'object'}, got {text[:60]!r}"
        )
    return value
