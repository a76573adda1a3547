"""One job: its state, its failed attempts, its arguments, its context, and the actions on it.

The values come from the broker (a job that waits or runs), from the history (one that has ended)
and from the failed jobs; any of the three may know nothing of the job.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tornado.web import HTTPError

from relevo.dashboard import broker_jobs, formatting, job_context
from relevo.dashboard.broker_jobs import BrokerJob
from relevo.dashboard.handlers import Page
from relevo.dashboard.pages.failed import failed_job_json
from relevo.database.text import storable
from relevo.drivers import message_codec
from relevo.errors import DriverError, OptionError
from relevo.job import redaction
from relevo.operations import retry
from relevo.store import failed, history
from relevo.store.failed import FailedJob
from relevo.store.history import EndedJob

MISSING = 404
LONGEST_ID = 255


@dataclass(frozen=True, slots=True)
class Step:
    """An event in the life of the job. `look`: good, bad or empty; `detail`: a traceback."""

    at: float
    said: str
    look: str = ""
    detail: str = ""


class JobPage(Page):
    """All that is known of a job."""

    template, title, tab = "relevo/job.html", "Job", "jobs"

    def gather(self, *arguments: str) -> dict[str, Any]:
        uuid = arguments[0]
        if not uuid or len(uuid) > LONGEST_ID:
            raise HTTPError(MISSING)
        source = self.application.source
        failures, ended = failed.failures_of(source.store, uuid), history.find(source.store, uuid)
        live, trouble = None, ""
        try:
            live = next(
                (broker_jobs.from_view(source.app, view) for view in source.driver.find([uuid])),
                None,
            )
        except DriverError as error:
            trouble = f"The broker can't be reached: {error}"
        if not failures and ended is None and live is None:
            raise HTTPError(
                MISSING, trouble or "There is no job with this id: it may be over and forgotten."
            )
        last = (
            next((job for job in failures if job.retried_at is None), None)
            if live is None
            else None
        )
        payload = live.view.payload if live else failures[0].payload if failures else ""
        return {
            "title": _task(failures, ended, live),
            "uuid": uuid,
            "live_job": live,
            "ended": ended,
            "failures": failures,
            "last": last,
            "trouble": trouble,
            "steps": steps(failures, ended, live, payload),
            "state": _state(failures, ended, live),
            "facts": facts(failures, ended, live),
            "tags": _tags(failures, ended, live),
            "editing": bool(self.field("edit")),
            "batch": job_context.batch_of(source, uuid, _batch(failures, live)),
            "neighbours": job_context.neighbours(payload),
            "progress": job_context.progress(source.app, uuid)
            if live and live.view.state == "reserved"
            else None,
            **_arguments(source.app, _named(failures, ended, live), payload, ended),
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        live = values["live_job"]
        return {
            "id": values["uuid"],
            "task": values["title"],
            "state": values["state"][0],
            "tags": values["tags"],
            "args": json.loads(values["args"] or "null"),
            "kwargs": json.loads(values["kwargs"] or "null"),
            "arguments": values["said"],
            "waiting": live.as_json() if live else None,
            "ended": values["ended"],
            "failures": [failed_job_json(job) for job in values["failures"]],
            "batch": values["batch"],
            "neighbours": values["neighbours"],
            "progress": values["progress"],
            "steps": values["steps"],
            "problems": [values["trouble"]] if values["trouble"] else [],
        }


def _task(failures: list[FailedJob], ended: EndedJob | None, live: BrokerJob | None) -> str:
    return _named(failures, ended, live) or "A message that names no task"


def _named(failures: list[FailedJob], ended: EndedJob | None, live: BrokerJob | None) -> str | None:
    return live.task if live else failures[0].task if failures else ended.task if ended else None


def _batch(failures: list[FailedJob], live: BrokerJob | None) -> str | None:
    return (
        live.batch
        if live and live.batch
        else next((job.batch for job in failures if job.batch), None)
    )


def _state(
    failures: list[FailedJob], ended: EndedJob | None, live: BrokerJob | None
) -> tuple[str, str]:
    """The state, and the class of the style sheet for it."""
    if live is not None:
        return broker_jobs.STATES[live.view.state], "good" if live.view.state == "reserved" else ""
    latest = failures[0].failed_at if failures else 0.0
    if ended is not None and ended.ended_at >= latest - 1:
        return str(ended.state), {"completed": "good", "failed": "bad"}.get(ended.state, "")
    return "failed", "bad"


def _tags(
    failures: list[FailedJob], ended: EndedJob | None, live: BrokerJob | None
) -> tuple[str, ...]:
    return live.tags if live else failures[0].tags if failures else ended.tags if ended else ()


def facts(
    failures: list[FailedJob], ended: EndedJob | None, live: BrokerJob | None
) -> list[tuple[str, Any]]:
    """Facts about the job: names with texts or instants."""
    said: list[tuple[str, Any]] = []
    if live is not None:
        view = live.view
        said += [("Queue", view.queue), ("Attempt", live.attempt), ("Priority", view.priority)]
        said += [("Put", view.created_at)]
        said += [("Runs at", view.available_at)] if view.state == "delayed" else []
        said += (
            [("Held by", view.reserved_by), ("Its lease ends", view.reserved_until)]
            if view.reserved_by
            else []
        )
        said += [("Rescued", formatting.counted(view.rescues, "time"))] if view.rescues else []
    elif ended is not None:
        said += [
            ("Queue", ended.queue),
            ("Connection", ended.connection),
            ("Attempts", ended.attempts),
            ("Waited", formatting.seconds(ended.waited)),
            ("Ran", formatting.seconds(ended.ran)),
            ("Ended", ended.ended_at),
        ]
    elif failures:
        job = failures[0]
        said += [
            ("Queue", job.queue),
            ("Connection", job.connection),
            ("Attempts", job.attempts),
            ("Failed", job.failed_at),
        ]
    return said


def steps(
    failures: list[FailedJob], ended: EndedJob | None, live: BrokerJob | None, payload: str
) -> list[Step]:
    """The events in the life of the job, newest first."""
    found: list[Step] = []
    with suppress(Exception):  # Another client's message may have no such time.
        found.append(Step(float(message_codec.loads(payload)["properties"]["due_at"]), "Could run"))
    for job in failures:
        for error in job.errors:
            with suppress(KeyError, TypeError, ValueError):
                text = (
                    f"Attempt {error['attempt']} failed: {error['exception']}: {error['message']}"
                )
                found.append(
                    Step(float(error["at"]), text, "bad", str(error.get("traceback") or ""))
                )
        found.append(
            Step(
                job.failed_at,
                f"Failed for good, as number {job.id}"
                + (f", a retry of {job.origin}" if job.origin else ""),
                "bad",
            )
        )
        found += [Step(job.retried_at, f"Number {job.id} was put back")] if job.retried_at else []
    if ended is not None and ended.state != "failed":
        why = f": {ended.message}" if ended.message else ""
        found.append(
            Step(ended.ended_at, f"{ended.state.capitalize()}{why}", "" if why else "good")
        )
    if live is not None:
        found.append(Step(live.view.created_at, "Put into its queue"))
    # Events of the same instant keep their order: the failure comes after its last attempt.
    return [
        step
        for _, step in sorted(
            enumerate(found), key=lambda each: (each[1].at, each[0]), reverse=True
        )
    ]


def _arguments(app: Any, task: str | None, payload: str, ended: EndedJob | None) -> dict[str, Any]:
    """The redacted arguments as JSON; as text if the message can't be parsed."""
    try:
        args, kwargs = redaction.redacted_arguments(app, task, *retry.arguments(payload))
    except OptionError:
        said = ended.arguments if ended else redaction.redacted_text(app, payload)
        return {"args": None, "kwargs": None, "said": formatting.cut(said)}
    return {"args": _pretty(args), "kwargs": _pretty(kwargs), "said": ""}


def _pretty(value: Any) -> str:
    return storable(json.dumps(value, indent=2, ensure_ascii=False))
