"""The failed store: jobs that won't run again by themselves, with all it takes to mend them.

    prepare -> relevo_failed -> page, find           for people
                             -> retry_claims         claimed, released to the broker, marked: once
                             -> forget, flush, prune deleted

A job is known by the number of its row, not by its uuid. A retried job has the same uuid; if it
fails again it gets a row of its own, with the first row's number as its `origin`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, exists, func, select

from relevo import clock
from relevo.database import text, upserts
from relevo.store import window_scan
from relevo.store.store import Store
from relevo.store.tables import failed, tags

# Rows that are listed, retried or deleted in one step.
PAGE = 100
# Rows of which only the numbers are read in one step.
NUMBERS_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    """A job that has failed for good.

    `errors` has one entry an attempt: attempt, exception, message, traceback, at. `arguments` is
    for people, redacted. `task` is None for a message that names no task. `id` is 0 until the job
    is recorded.
    """

    uuid: str
    queue: str
    connection: str
    payload: str
    exception: str
    message: str
    failed_at: float
    task: str | None = None
    tags: tuple[str, ...] = ()
    attempts: int = 0
    errors: tuple[dict[str, Any], ...] = ()
    batch: str | None = None
    origin: int = 0
    retried_at: float | None = None
    id: int = 0
    arguments: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which failed jobs: by queue, task, batch or tag, failed since an instant, with these numbers.

    None means any. `newest` is the highest number. `also` are further conditions, made by
    `relevo.store.search_syntax`.
    """

    queue: str | None = None
    task: str | None = None
    tag: str | None = None
    since: float | None = None
    ids: Sequence[int] | None = None
    newest: int | None = None
    batch: str | None = None
    also: Sequence[ColumnElement[bool]] = ()

    def conditions(self) -> list[ColumnElement[bool]]:
        values: list[tuple[Any, Callable[[Any], ColumnElement[bool]]]] = [
            (self.queue, lambda queue: failed.c.queue == queue),
            (self.task, lambda task: failed.c.task == task),
            (self.batch, lambda batch: failed.c.batch == batch),
            (self.tag, lambda tag: exists().where(tags.c.tag == tag, tags.c.uuid == failed.c.uuid)),
            (self.since, lambda since: failed.c.failed_at >= since),
            (self.ids, failed.c.id.in_),
            (self.newest, lambda newest: failed.c.id <= newest),
        ]
        return [*(condition(value) for value, condition in values if value is not None), *self.also]


EVERY_JOB = Filter()


def record(connection: Connection, jobs: Sequence[FailedJob]) -> None:
    """Write failed jobs, in the caller's transaction. A recorded job is left as it is."""
    prepare(jobs)(connection)


def prepare(jobs: Sequence[FailedJob]) -> Callable[[Connection], None]:
    """Return a function that records the jobs, in the caller's transaction.

    The work that needs no transaction is done before, because others wait for its lock.
    """
    rows = [_row(job) for job in jobs]
    marks = [
        {"tag": text.name(tag), "uuid": text.name(job.uuid), "at": job.failed_at}
        for job in jobs
        for tag in job.tags
    ]

    def write(connection: Connection) -> None:
        if rows:
            upserts.execute_many(
                connection, upserts.insert_or_ignore(connection.dialect.name, failed), rows
            )
        if marks:
            upserts.execute_many(connection, upserts.plain_insert(tags), marks)

    return write


def find(store: Store, number: int) -> FailedJob | None:
    """Return the failed job with this number, retried or not, or None."""
    row = store.read(
        lambda connection: connection.execute(select(failed).where(failed.c.id == number)).first()
    )
    return job_of(row) if row is not None else None


def find_by_uuid(store: Store, uuid: str) -> FailedJob | None:
    """Return the last failure of the job with this id, or None."""
    query = (
        select(failed).where(failed.c.uuid == text.name(uuid)).order_by(failed.c.id.desc()).limit(1)
    )
    row = store.read(lambda connection: connection.execute(query).first())
    return job_of(row) if row is not None else None


def page(
    store: Store, which: Filter = EVERY_JOB, *, before: int | None = None, limit: int = PAGE
) -> list[FailedJob]:
    """Return failed jobs that were not retried, newest first.

    The next page is `before` the last number of this page.
    """
    query = select(failed).where(failed.c.retried_at.is_(None), *which.conditions())
    if before is not None:
        query = query.where(failed.c.id < before)
    query = query.order_by(failed.c.id.desc()).limit(limit)
    return [job_of(row) for row in store.read(lambda connection: connection.execute(query).all())]


def failures_of(store: Store, uuid: str) -> list[FailedJob]:
    """Return every failure of the job with this id, retried or not, newest first."""
    query = (
        select(failed)
        .where(failed.c.uuid == text.name(uuid))
        .order_by(failed.c.id.desc())
        .limit(PAGE)
    )
    return [job_of(row) for row in store.read(lambda connection: connection.execute(query).all())]


def count_up_to(store: Store, most: int, which: Filter = EVERY_JOB) -> int:
    """Count the failed jobs that were not retried, up to `most`: counting millions is slow."""
    return window_scan.count_up_to(
        store, select(failed.c.id).where(failed.c.retried_at.is_(None), *which.conditions()), most
    )


def count(store: Store, which: Filter = EVERY_JOB) -> int:
    """Count the failed jobs that were not retried."""
    query = (
        select(func.count())
        .select_from(failed)
        .where(failed.c.retried_at.is_(None), *which.conditions())
    )
    return store.read(lambda connection: int(connection.execute(query).scalar_one()))


def count_all(store: Store, which: Filter = EVERY_JOB) -> int:
    """Count all failed jobs, retried or not."""
    query = select(func.count()).select_from(failed).where(*which.conditions())
    return store.read(lambda connection: int(connection.execute(query).scalar_one()))


def forget(store: Store, which: Filter) -> int:
    """Delete failed jobs, retried or not. Returns how many.

    It deletes a portion at a time, so that others can write in between.
    """
    total, after = 0, 0
    while numbers := numbers_of(store, which, after, NUMBERS_PAGE):
        after = numbers[-1]
        total += store.write(
            lambda connection, numbers=numbers: _delete(connection, [failed.c.id.in_(numbers)])  # type: ignore[misc]
        )
    return total


def numbers_of(store: Store, which: Filter, after: int, limit: int) -> list[int]:
    """Return the numbers above `after` of failed jobs, retried or not, oldest first.

    It holds no lock, since a search may take long.
    """
    query = (
        select(failed.c.id)
        .where(failed.c.id > after, *which.conditions())
        .order_by(failed.c.id)
        .limit(limit)
    )
    return store.read(lambda connection: list(connection.execute(query).scalars()))


def flush(store: Store, hours: float = 0) -> int:
    """Delete the jobs that failed at least so many hours ago; 0 means all. Returns how many."""
    return prune(store, clock.now() - hours * 3600)


def prune(store: Store, before: float) -> int:
    """Delete the jobs that failed at or before an instant. Returns how many.

    It deletes a page at a time, so that no lock is held for long.
    """
    total, gone = 0, PAGE
    while gone == PAGE:
        gone = store.write(lambda connection: _delete_oldest(connection, before))
        total += gone
    return total


def _delete(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> int:
    found = connection.execute(select(failed.c.id, failed.c.uuid).where(*conditions)).all()
    for start in range(0, len(found), PAGE):
        part = found[start : start + PAGE]
        connection.execute(delete(failed).where(failed.c.id.in_([row.id for row in part])))
        connection.execute(delete(tags).where(tags.c.uuid.in_([row.uuid for row in part])))
    return len(found)


def _delete_oldest(connection: Connection, before: float) -> int:
    oldest = (
        select(failed.c.id)
        .where(failed.c.failed_at <= before)
        .order_by(failed.c.failed_at)
        .limit(PAGE)
    )
    numbers = list(connection.execute(oldest).scalars())
    return _delete(connection, [failed.c.id.in_(numbers)]) if numbers else 0


def _row(job: FailedJob) -> dict[str, Any]:
    return {
        "uuid": text.name(job.uuid),
        "origin": job.origin,
        "task": job.task and text.name(job.task),
        "connection": text.name(job.connection),
        "queue": text.name(job.queue),
        "payload": text.storable(job.payload),
        "tags": text.json_list(job.tags),
        "attempts": job.attempts,
        "errors": text.json_list(job.errors),
        "exception": text.name(job.exception),
        "message": text.storable(job.message),
        "batch": job.batch and text.name(job.batch),
        "failed_at": job.failed_at,
        "arguments": job.arguments and text.storable(job.arguments),
    }


def job_of(row: Row[Any]) -> FailedJob:
    """Return the failed job of a row of the table."""
    values = {
        name: value
        for name, value in row._mapping.items()  # noqa: SLF001
        if name not in ("claim", "claimed_at")
    }
    values["tags"], values["errors"] = tuple(json.loads(row.tags)), tuple(json.loads(row.errors))
    return FailedJob(**values)
