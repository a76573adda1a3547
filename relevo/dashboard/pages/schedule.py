"""The entries of beat_schedule with their next and last run, and the runs of one entry; run now,
pause, resume.
"""

from __future__ import annotations

from typing import Any

from tornado.web import HTTPError

from relevo.dashboard import formatting
from relevo.dashboard.handlers import Action, Page
from relevo.dashboard.pages.overview import PAUSES
from relevo.dashboard.pages.pauses import parse_length
from relevo.errors import OptionError
from relevo.schedule import operations

ROWS = 50
MISSING = 404
_LOOKS = {"completed": "good", "failed": "bad", "cancelled": "warn"}


class SchedulePage(Page):
    """Each entry of the schedule with its next and its last run."""

    template, title, tab = "relevo/schedule.html", "Schedule", "more"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        rows, wrong = [], ""
        try:
            rows = operations.views(self.application.capp)
        except OptionError as error:
            wrong = f"No beat can start: {error}"
        return {
            "rows": rows,
            "wrong": wrong,
            "pauses": PAUSES,
            "looks": _LOOKS,
            "late": any(row.overdue for row in rows),
            "started": any(row.known for row in rows),
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        if values["wrong"]:
            raise OptionError(values["wrong"])
        return {"entries": [entry_json(row) for row in values["rows"]]}


def entry_json(view: operations.EntryView) -> dict[str, Any]:
    """An entry as JSON."""
    entry = view.entry
    return {
        "entry": entry.name,
        "task": entry.task,
        "schedule": entry.description,
        "queue": entry.queue,
        "next": view.next,
        "last": view.last,
        "paused": view.paused,
        "paused_until": view.paused_until,
        "overdue": view.overdue,
    }


class EntryPage(Page):
    """An entry of the schedule and its runs."""

    template, title, tab = "relevo/entry.html", "Schedule", "more"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        app, name, before = self.application.capp, self.field("entry"), self.whole_number("before")
        runs = operations.history(app, name, before=before, limit=ROWS + 1) if name else []
        try:
            view = operations.view(app, name)
        except OptionError as error:
            view = None
            if not runs:
                raise HTTPError(MISSING, "There is no such entry in beat_schedule.") from error
        more = runs[ROWS - 1].id if len(runs) > ROWS else None
        return {
            "title": name,
            "view": view,
            "runs": runs[:ROWS],
            "more": more,
            "before": before,
            "pauses": PAUSES,
            "looks": _LOOKS,
            "facts": _facts(view) if view else [],
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "entry": values["view"] and entry_json(values["view"]),
            "runs": values["runs"],
            "next": {"before": values["more"]} if values["more"] else None,
        }


def _facts(view: operations.EntryView) -> list[tuple[str, Any]]:
    """Facts about an entry: names with texts or instants."""
    entry, rule = view.entry, view.entry.rule
    missed = {
        "one": "the latest missed run",
        "none": "no missed run",
        "all": f"every missed run, at most {rule.limit}",
    }
    within = (
        f", of the last {formatting.seconds(rule.window)}"
        if rule.window and rule.rule != "none"
        else ""
    )
    said: list[tuple[str, Any]] = [
        ("Task", entry.task),
        ("Schedule", entry.description),
        ("Queue", entry.queue),
    ]
    said += [("After a gap", missed[rule.rule] + within)]
    if view.paused:
        return [
            *said,
            (
                "Paused until",
                view.paused_until if view.paused_until is not None else "it is resumed",
            ),
        ]
    return [*said, ("Next run", view.next if view.next is not None else "never")]


class EntryAction(Action):
    """An action on the entry that the form names."""

    def target(self, *_arguments: str) -> str:
        return self.field("entry")


class RunEntry(EntryAction):
    """Run an entry now."""

    name = "run entry"

    def act(self, *_arguments: str) -> str:
        run = operations.run(self.application.capp, self.field("entry"), str(self.current_user))
        return operations.describe_run(run)


class PauseEntry(EntryAction):
    """Pause an entry, for some seconds or until it is resumed."""

    name = "pause entry"

    def act(self, *_arguments: str) -> str:
        seconds, said = parse_length(self.field("for"))
        operations.pause(self.application.capp, self.field("entry"), seconds)
        return f"{self.field('entry')} is paused {said}."


class ResumeEntry(EntryAction):
    """End the pause of an entry."""

    name = "resume entry"

    def act(self, *_arguments: str) -> str:
        name = self.field("entry")
        return (
            f"{name} goes on."
            if operations.resume(self.application.capp, name)
            else f"{name} was not paused."
        )
