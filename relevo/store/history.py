"""History: how each job ended, for as long as it is kept. One row a job, of its last end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, select, tuple_

from relevo.database import text, upserts
from relevo.store import pages
from relevo.store.store import Store
from relevo.store.tables import history, tags

# Rows that are deleted in one step.
PAGE = pages.PAGE


class Ended(StrEnum):
    """How a job has ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that has ended.

    `waited` is how many seconds it was ready before it ran, `ran` how many its last attempt took.
    `arguments` is for people, cut if it is long. `message` says why it did not complete.
    """

    uuid: str
    task: str
    connection: str
    queue: str
    state: Ended
    attempts: int
    ended_at: float
    waited: float | None = None
    ran: float | None = None
    tags: tuple[str, ...] = ()
    arguments: str = ""
    message: str = ""
    id: int = 0
    silenced: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return EndedJob, (
            self.uuid,
            self.task,
            self.connection,
            self.queue,
            self.state,
            self.attempts,
            self.ended_at,
            self.waited,
            self.ran,
            self.tags,
            self.arguments,
            self.message,
            self.id,
            self.silenced,
        )  # a tenth of what the dataclass's own way takes


_COLUMNS = (
    "task",
    "connection",
    "queue",
    "state",
    "attempts",
    "tags",
    "arguments",
    "message",
    "waited",
    "ran",
    "ended_at",
    "silenced",
)


def prepare(jobs: Sequence[EndedJob]) -> Callable[[Connection], None]:
    """Return a function that writes the ends of jobs, in the caller's transaction.

    The row of a job that has ended before is replaced.
    """
    latest = {job.uuid: job for job in jobs}.values()
    rows = [_row(job) for job in latest]
    marks = [_mark(job, tag) for job in latest if job.state is not Ended.FAILED for tag in job.tags]

    def write(connection: Connection) -> None:
        if rows:
            upserts.execute_many(
                connection,
                upserts.insert_or_replace(connection.dialect.name, history, "uuid", _COLUMNS),
                rows,
            )
        if marks:
            upserts.execute_many(connection, upserts.plain_insert(tags), marks)

    return write


def find(store: Store, uuid: str) -> EndedJob | None:
    """Return the end of the job with this id, or None."""
    query = select(history).where(history.c.uuid == text.name(uuid))
    row = store.read(lambda connection: connection.execute(query).first())
    return job_of(row) if row is not None else None


def page(
    store: Store,
    state: Ended,
    *,
    tag: str | None = None,
    before: EndedJob | None = None,
    limit: int = 100,
    also: Sequence[ColumnElement[bool]] = (),
    silenced: bool | None = None,
) -> list[EndedJob]:
    """Return jobs that ended in this state, newest first.

    The next page is `before` the last job of this page, of which only `ended_at` and `id` matter.
    `also` are further conditions, made by `relevo.store.search_syntax`. `silenced`: only silenced
    jobs, or only the others; None means both.
    """
    # Two reads of the index: one read of both kinds would sort.
    if state is Ended.COMPLETED and silenced is None:
        shown, apart = (
            page(store, state, tag=tag, before=before, limit=limit, also=also, silenced=each)
            for each in (False, True)
        )
        return sorted(shown + apart, key=lambda job: (job.ended_at, job.id), reverse=True)[:limit]
    query = select(history).where(
        history.c.state == state, history.c.silenced == int(bool(silenced)), *also
    )
    if tag is not None:
        query = query.where(exists().where(tags.c.tag == tag, tags.c.uuid == history.c.uuid))
    if before is not None:
        query = query.where(
            tuple_(history.c.ended_at, history.c.id) < tuple_(before.ended_at, before.id)
        )
    query = query.order_by(history.c.ended_at.desc(), history.c.id.desc()).limit(limit)
    return [job_of(row) for row in store.read(lambda connection: connection.execute(query).all())]


def forget(store: Store, uuids: Sequence[str]) -> int:
    """Delete the ends of these jobs. Returns how many.

    `outcomes.prune` deletes their tags later.
    """
    named = [text.name(uuid) for uuid in uuids]
    portions = [named[start : start + PAGE] for start in range(0, len(named), PAGE)]

    def forget_each(connection: Connection) -> int:
        gone = (delete(history).where(history.c.uuid.in_(portion)) for portion in portions)
        return sum(int(connection.execute(statement).rowcount) for statement in gone)

    return store.write(forget_each) if portions else 0


def prune(store: Store, state: Ended, before: float) -> int:
    """Delete jobs that ended in this state before an instant. Returns how many.

    `outcomes.prune` deletes their tags later.
    """
    is_old = history.c.ended_at < before
    return pages.prune(
        store, history, history.c.state == state, history.c.silenced.in_((0, 1)), is_old
    )


def _row(job: EndedJob) -> dict[str, Any]:
    return {
        "uuid": text.name(job.uuid),
        "task": text.name(job.task),
        "connection": job.connection,
        "queue": text.name(job.queue),
        "state": job.state.value,
        "attempts": job.attempts,
        "tags": text.json_list(job.tags) if job.tags else "[]",
        "arguments": text.storable(job.arguments),
        "message": text.storable(job.message) if job.message else "",
        "waited": job.waited,
        "ran": job.ran,
        "ended_at": job.ended_at,
        "silenced": int(job.silenced),
    }


def _mark(job: EndedJob, tag: str) -> dict[str, Any]:
    return {"tag": text.name(tag), "uuid": text.name(job.uuid), "at": job.ended_at}


def job_of(row: Row[Any]) -> EndedJob:
    """Return the job of a row of the table."""
    values = dict(row._mapping)  # noqa: SLF001  the public name of a row's columns
    return EndedJob(
        **{
            **values,
            "tags": tuple(json.loads(row.tags)),
            "state": Ended(row.state),
            "silenced": bool(row.silenced),
        }
    )
