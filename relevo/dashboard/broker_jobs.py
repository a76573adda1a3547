"""Jobs in the broker, read from their messages and searched. Another client may have written a
message, so any field may be missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from relevo.dashboard.sources import Source
from relevo.database.text import storable
from relevo.drivers import message_codec
from relevo.drivers.contract import Driver, JobView, State
from relevo.job import membership, redaction
from relevo.job.payload import HEADER
from relevo.store.search_syntax import Search

#: The most jobs of a queue that a search reads.
MOST_SEARCHED = 1000
LONGEST_ARGUMENTS = 1000
#: The driver's name of a state -> the name on the pages.
STATES = {"pending": "pending", "delayed": "delayed", "reserved": "running"}


@dataclass(frozen=True, slots=True)
class BrokerJob:
    """A job in the broker, and the fields of its message."""

    view: JobView
    task: str
    arguments: str
    tags: tuple[str, ...]
    attempt: int
    batch: str | None = None

    @property
    def id(self) -> str:
        return self.view.id

    def as_json(self) -> dict[str, Any]:
        """The job as JSON."""
        view = self.view
        return {
            "id": view.id,
            "task": self.task,
            "queue": view.queue,
            "state": STATES[view.state],
            "attempt": self.attempt,
            "arguments": self.arguments,
            "tags": self.tags,
            "created_at": view.created_at,
            "available_at": view.available_at,
            "reserved_by": view.reserved_by,
            "reserved_until": view.reserved_until,
        }

    def is_lease_over(self, now: float) -> bool:
        """Whether its worker has not extended the lease in time: another worker will rescue it."""
        return self.view.reserved_until is not None and self.view.reserved_until < now


def from_view(app: Any, view: JobView) -> BrokerJob:
    """The fields of a job's message, redacted."""
    try:
        headers: dict[str, Any] = message_codec.loads(view.payload).get("headers") or {}
        sent = headers.get(HEADER)
        tags = sent.get("tags") if isinstance(sent, dict) else None
        said = redaction.redacted_reprs(
            app, headers.get("task"), headers.get("argsrepr"), headers.get("kwargsrepr")
        ).strip()
        attempt = int(headers.get("retries") or 0) + 1
        task = storable(headers.get("task") or "?")
    except Exception:  # noqa: BLE001  malformed: its run will fail with the cause
        return BrokerJob(
            view,
            "?",
            storable(redaction.redacted_text(app, view.payload)[:LONGEST_ARGUMENTS]),
            (),
            view.attempts,
        )
    named = tuple(map(storable, tags)) if isinstance(tags, (list, tuple)) else ()
    places = membership.read(headers)
    return BrokerJob(
        view,
        task,
        storable(said[:LONGEST_ARGUMENTS]),
        named,
        attempt,
        places[0].batch if places else None,
    )


def list_jobs(
    app: Any,
    driver: Driver,
    queues: Sequence[str],
    state: State,
    search: Search,
    limit: int,
    seconds: float,
) -> tuple[list[BrokerJob], bool]:
    """The first jobs of these queues in a state, in the order in which they will run, and whether
    every job was read.

    A search reads up to MOST_SEARCHED jobs of each queue, and stops after about `seconds`.
    """
    found, whole, began = list[BrokerJob](), True, time.monotonic()
    deep = MOST_SEARCHED if search else limit
    ids = [value for value in search.values("id") if "*" not in value]
    known = driver.find(ids) if ids else []
    for queue in queues:
        views = (
            [view for view in known if (view.queue, view.state) == (queue, state)]
            if ids
            else (driver.peek(queue, state, deep))
        )
        whole = whole and len(views) < deep
        found += [job for job in (from_view(app, view) for view in views) if matches(job, search)]
        if state is State.PENDING and len(found) >= limit:
            break
        if search and time.monotonic() - began > seconds:
            whole = whole and queue == queues[-1]
            break
    if state is not State.PENDING:
        found.sort(key=lambda job: job.view.available_at)
    return found[:limit], whole


def matching_ids(source: Source, state: State, search: Search) -> Iterator[list[str]]:
    """The ids of all jobs in a state that a search finds, in chunks and in no order.

    The caller may change jobs between two chunks. A job that is added meanwhile may be missed.
    """
    after, more = "", True
    while more:
        views, after = source.driver.scan(after)
        ids = [
            view.id
            for view in views
            if view.state is state and matches(from_view(source.app, view), search)
        ]
        if ids:
            yield ids
        more = after != ""


def matches(job: BrokerJob, search: Search) -> bool:
    """Whether a search finds this job. (For the store, relevo/store/search.py does the same.)"""
    if any(not _matches_term(job, name, value) for name, value in search.terms):
        return False
    since, until = search.since, search.until
    if (since is not None and job.view.created_at < since) or (
        until is not None and job.view.created_at >= until
    ):
        return False
    return all(
        any(word.lower() in text.lower() for text in (job.id, job.task, job.arguments))
        for word in search.words
    )


def _matches_term(job: BrokerJob, name: str, value: str) -> bool:
    if name == "tag":
        return any(fnmatchcase(tag, _glob(value)) for tag in job.tags)
    if name == "args":
        return value.lower() in job.arguments.lower()
    if name == "error":
        return False
    return fnmatchcase(
        {"task": job.task, "queue": job.view.queue, "id": job.id}[name], _glob(value)
    )


def _glob(value: str) -> str:
    """The search value as a pattern of fnmatch: only `*` is special."""
    return value.replace("[", "[[]").replace("?", "[?]")
