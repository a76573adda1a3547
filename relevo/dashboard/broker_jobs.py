"""Jobs that the broker holds, as people read them. A message may be a stranger's: anything may be
missing in it.
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

#: So far into a queue is looked for a job by its id or by a search.
DEEPEST = 1000
LONGEST_ARGUMENTS = 1000
#: The driver's word for a state -> people's.
STATES = {"pending": "pending", "delayed": "delayed", "reserved": "running"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in the broker, and what its message says."""

    view: JobView
    task: str
    arguments: str
    tags: tuple[str, ...]
    attempt: int
    batch: str | None = None

    @property
    def id(self) -> str:
        return self.view.id

    def told(self) -> dict[str, Any]:
        """What a program is told of it."""
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

    def is_left(self, now: float) -> bool:
        """Whether whoever held it is silent for longer than the lease: the next worker that looks
        takes it over.
        """
        return self.view.reserved_until is not None and self.view.reserved_until < now


def read(app: Any, view: JobView) -> Waiting:
    """What stands in a job's message, but for what nobody sees."""
    try:
        headers: dict[str, Any] = message_codec.loads(view.payload).get("headers") or {}
        sent = headers.get(HEADER)
        tags = sent.get("tags") if isinstance(sent, dict) else None
        said = redaction.redacted_reprs(
            app, headers.get("task"), headers.get("argsrepr"), headers.get("kwargsrepr")
        ).strip()
        attempt = int(headers.get("retries") or 0) + 1
        task = storable(headers.get("task") or "?")
    except Exception:  # noqa: BLE001  it will fail when it is run, and say why
        return Waiting(
            view,
            "?",
            storable(redaction.redacted_text(app, view.payload)[:LONGEST_ARGUMENTS]),
            (),
            view.attempts,
        )
    named = tuple(map(storable, tags)) if isinstance(tags, (list, tuple)) else ()
    places = membership.read(headers)
    return Waiting(
        view,
        task,
        storable(said[:LONGEST_ARGUMENTS]),
        named,
        attempt,
        places[0].batch if places else None,
    )


def listed(
    app: Any,
    driver: Driver,
    queues: Sequence[str],
    state: State,
    search: Search,
    limit: int,
    seconds: float,
) -> tuple[list[Waiting], bool]:
    """The first jobs of these queues in a state, in the order in which they will run, and whether
    all were looked at.

    A search looks DEEPEST far into each queue, for about so many seconds.
    """
    found, whole, began = list[Waiting](), True, time.monotonic()
    deep = DEEPEST if search else limit
    ids = [value for value in search.values("id") if "*" not in value]
    known = driver.find(ids) if ids else []
    for queue in queues:
        views = (
            [view for view in known if (view.queue, view.state) == (queue, state)]
            if ids
            else (driver.peek(queue, state, deep))
        )
        whole = whole and len(views) < deep
        found += [job for job in (read(app, view) for view in views) if fits(job, search)]
        if state is State.PENDING and len(found) >= limit:
            break
        if search and time.monotonic() - began > seconds:
            whole = whole and queue == queues[-1]
            break
    if state is not State.PENDING:
        found.sort(key=lambda job: job.view.available_at)
    return found[:limit], whole


def every(source: Source, state: State, search: Search) -> Iterator[list[str]]:
    """The ids of all jobs in a state that a search finds, however deep they lie, some at a time and
    in no order.

    What is done to some of them meanwhile is in nobody's way; one that comes meanwhile may be among
    them or not.
    """
    after, more = "", True
    while more:
        views, after = source.driver.scan(after)
        ids = [
            view.id
            for view in views
            if view.state is state and fits(read(source.app, view), search)
        ]
        if ids:
            yield ids
        more = after != ""


def fits(job: Waiting, search: Search) -> bool:
    """Whether a search means this job. (The store's own is in relevo/store/search_syntax.py.)"""
    if any(not _has(job, name, value) for name, value in search.terms):
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


def _has(job: Waiting, name: str, value: str) -> bool:
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
    """Only `*` is special in a search."""
    return value.replace("[", "[[]").replace("?", "[?]")
