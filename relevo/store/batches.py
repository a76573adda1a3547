"""Batches, chains and chords. Members are counted in the transaction that records their ends.

    create         a row of relevo_batches; then its members are sent in pages
    update_counts  changes the counts: more members, or the last page is sent and it can finish
    prepare_ends   (the recorder) writes a row of relevo_members for each end, the counts, and the
                   callbacks that are due: all of it or nothing
    cancelled      members that have not started are skipped when they are reserved

The row of the batch is locked first, so only one process counts at a time. `batch_counts.py` says
what follows from the counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from relevo import clock
from relevo.database import text
from relevo.store import batch_counts, pages
from relevo.store.batch_counts import Callback, Kind, Tally
from relevo.store.outbox import Deliver, Sending
from relevo.store.store import Store
from relevo.store.tables import batches, members

# Batches that are listed or deleted in one step, and members that are listed.
PAGE = 100

# `finished_at` of a batch that is forgotten, while its members are being deleted.
_FORGOTTEN = 0.0
_IS_KEPT = func.coalesce(batches.c.finished_at, 1.0) != _FORGOTTEN

#: The fields of a tally with columns of the same name. (`reported_percent` is the column `told`.)
_COUNTS = (
    "streams",
    "total",
    "completed",
    "failed",
    "cancelled",
    "cancelled_at",
    "failed_at",
    "completed_at",
    "finished_at",
)


@dataclass(frozen=True, slots=True)
class MemberEnd:
    """How a member of a batch has ended. `state` is one of `batch_counts`, `uuid` the job's id.

    The members of a chord are known by their jobs. There `member` is only the place that the job
    would have among the results. `error` says why a member has failed; it isn't stored here.
    """

    batch: str
    member: int
    state: str
    uuid: str
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A batch in the store. `queue` is None if each member has a queue of its own."""

    id: str
    name: str
    connection: str
    queue: str | None
    callbacks: Mapping[str, Sequence[Mapping[str, Any]]]
    created_at: float
    tally: Tally


def create(connection: Connection, row: BatchRow) -> None:
    """Write a new batch, in the caller's transaction. Its dispatch is its first stream."""
    connection.execute(
        insert(batches),
        {
            "id": row.id,
            "kind": row.tally.kind.value,
            "name": text.name(row.name),
            "connection": row.connection,
            "queue": row.queue,
            "allow_failures": int(row.tally.allow_failures),
            "callbacks": text.storable(json.dumps(row.callbacks)),
            "created_at": row.created_at,
            **_counts(row.tally),
        },
    )


def update_counts(
    connection: Connection,
    id_: str,
    deliver: Deliver,
    changed: Callable[[BatchRow], Tally | None],
    failures: Sequence[MemberEnd] = (),
) -> BatchRow | None:
    """Change the counts of a batch, in the caller's transaction, and deliver the callbacks due.

    `changed` returns the new counts, or None for no change. `failures`: the members that have
    failed in them, which may be filled by `changed`. Returns None if there is no such batch.
    """
    found = connection.execute(select(batches).where(batches.c.id == id_).with_for_update()).first()
    if found is None or found.finished_at == _FORGOTTEN:
        return None
    row = row_of(found)
    after = changed(row)
    return row if after is None else _conclude(connection, row, after, deliver, failures)


def prepare_ends(ends: Sequence[MemberEnd], deliver: Deliver) -> Callable[[Connection], None]:
    """Return a function that counts members' ends, in the caller's transaction."""
    by_batch = {
        id_: list(each) for id_, each in groupby(sorted(ends, key=_batch_of), key=_batch_of)
    }

    def count(connection: Connection) -> None:
        # `by_batch` is sorted: all lock batches in the same order, so none deadlock.
        for id_, ended in by_batch.items():
            failures: list[MemberEnd] = []
            count_these = partial(_count_ends, connection, ended=ended, failures=failures)
            update_counts(connection, id_, deliver, count_these, failures)

    return count


def find(store: Store, id_: str) -> BatchRow | None:
    """Return the batch with this id, or None."""
    query = select(batches).where(batches.c.id == text.name(id_), _IS_KEPT)
    row = store.read(lambda connection: connection.execute(query).first())
    return row_of(row) if row is not None else None


def exists(connection: Connection, id_: str) -> bool:
    """Whether there is a batch with this id, in the caller's transaction."""
    query = select(batches.c.id).where(batches.c.id == text.name(id_), _IS_KEPT)
    return connection.execute(query).first() is not None


def page(
    store: Store, *, before: tuple[float, str] | None = None, limit: int = PAGE
) -> list[BatchRow]:
    """Return batches, newest first.

    The next page is `before` the `created_at` and the `id` of the last batch of this page.
    """
    newest_first = (batches.c.created_at.desc(), batches.c.id.desc())
    query = select(batches).where(_IS_KEPT).order_by(*newest_first).limit(limit)
    if before is not None:
        at, id_ = before
        older = (batches.c.created_at < at) | (batches.c.id < text.name(id_))
        query = query.where(batches.c.created_at <= at, older)
    return [row_of(row) for row in store.read(lambda connection: connection.execute(query).all())]


def batch_of(store: Store, uuid: str) -> str | None:
    """Return the batch in which a job has ended as a member, or None."""
    query = select(members.c.batch).where(members.c.uuid == text.name(uuid)).limit(1)
    return store.read(lambda connection: connection.execute(query).scalars().first())


def count_open(store: Store, most: int) -> int:
    """Count the batches that have not finished, up to `most`."""
    some = select(batches.c.id).where(batches.c.finished_at.is_(None)).limit(most).subquery()
    return store.read(
        lambda connection: int(
            connection.execute(select(func.count()).select_from(some)).scalar_one()
        )
    )


def find_cancelled(store: Store, ids: Iterable[str]) -> set[str]:
    """Return those of these batches that were cancelled."""
    query = select(batches.c.id).where(
        batches.c.id.in_(sorted(ids)), batches.c.cancelled_at.is_not(None)
    )
    return set(store.read(lambda connection: connection.execute(query).scalars().all()))


def ended_members(
    store: Store, id_: str, state: str | None = None, limit: int = PAGE
) -> list[MemberEnd]:
    """Return how members of a batch have ended, in the order of their numbers."""
    query = select(members).where(members.c.batch == id_).order_by(members.c.member).limit(limit)
    if state is not None:
        query = query.where(members.c.state == state)
    rows = store.read(lambda connection: connection.execute(query).all())
    return [MemberEnd(row.batch, row.member, row.state, row.uuid) for row in rows]


def prune(store: Store, *, finished: float, unfinished: float | None = None) -> int:
    """Delete batches that finished before an instant. Returns how many.

    With `unfinished` also those that began before that instant and never finished. A batch is
    forgotten in one step, under the lock of its row. Its members go in pages after that, because
    there may be a million of them. If the process dies meanwhile, the next call deletes the rest.
    """
    conditions = [(batches.c.finished_at > _FORGOTTEN) & (batches.c.finished_at < finished)]
    if unfinished is not None:
        conditions.append(batches.c.finished_at.is_(None) & (batches.c.created_at < unfinished))
    total = 0
    for condition in conditions:
        total += _repeat(store, lambda connection, which=condition: _forget(connection, which))  # type: ignore[misc]
    while store.write(_delete_forgotten):
        pass
    return total


def _repeat(store: Store, step: Callable[[Connection], int]) -> int:
    total, done = 0, PAGE
    while done == PAGE:
        done = store.write(step)
        total += done
    return total


def _forget(connection: Connection, which: ColumnElement[bool]) -> int:
    """Mark up to PAGE batches as forgotten. One whose members are just counted has its time."""
    query = select(batches.c.id).where(which).limit(PAGE).with_for_update(skip_locked=True)
    ids = list(connection.execute(query).scalars())
    if ids:
        connection.execute(
            update(batches).where(batches.c.id.in_(ids)).values(finished_at=_FORGOTTEN)
        )
    return len(ids)


def _delete_forgotten(connection: Connection) -> bool:
    """Delete a page of members of forgotten batches, or the batches. Returns whether there were."""
    query = select(batches.c.id).where(batches.c.finished_at == _FORGOTTEN).limit(PAGE)
    ids = list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
    if ids and pages.delete_page(connection, members, members.c.batch.in_(ids)) < pages.PAGE:
        connection.execute(delete(batches).where(batches.c.id.in_(ids)))
    return bool(ids)


def _count_ends(
    connection: Connection, row: BatchRow, ended: Sequence[MemberEnd], failures: list[MemberEnd]
) -> Tally | None:
    """Write how members have ended. Returns the new counts, and adds to `failures`."""
    mine = members.c.batch == row.id
    if row.tally.kind is Kind.CHORD:
        ended = _number_by_job(connection, row, ended)
    wanted = sorted({end.member for end in ended})
    query = select(members.c.member, members.c.state).where(mine, members.c.member.in_(wanted))
    known: dict[int, str] = {found.member: found.state for found in connection.execute(query)}
    there, counts, changes, now = set(known), row.tally, {}, clock.now()
    for end in ended:
        before = known.get(end.member)
        if batch_counts.is_change(before, end.state):
            counts = batch_counts.apply(counts, before, end.state)
            known[end.member] = end.state
            if end.state == batch_counts.FAILED:
                failures.append(end)
            changes[end.member] = {
                "batch": row.id,
                "member": end.member,
                "state": end.state,
                "uuid": text.name(end.uuid),
                "ended_at": now,
            }
    for number in sorted(there & changes.keys()):
        connection.execute(
            update(members).where(mine, members.c.member == number).values(changes[number])
        )
    if new := [change for number, change in sorted(changes.items()) if number not in there]:
        connection.execute(insert(members), new)
    return counts if changes else None


def _number_by_job(
    connection: Connection, row: BatchRow, ended: Sequence[MemberEnd]
) -> list[MemberEnd]:
    """Number the members of a chord, by their jobs.

    A member keeps its number. A new one gets the number that it asks for, unless it is taken.
    """
    mine = members.c.batch == row.id
    uuids = sorted({text.name(end.uuid) for end in ended})
    query = select(members.c.uuid, members.c.member).where(mine, members.c.uuid.in_(uuids))
    numbers = {found.uuid: found.member for found in connection.execute(query)}
    asked = sorted({end.member for end in ended if text.name(end.uuid) not in numbers})
    taken = set(
        connection.execute(
            select(members.c.member).where(mine, members.c.member.in_(asked))
        ).scalars()
    )
    for end in ended:
        if (uuid := text.name(end.uuid)) not in numbers:
            number = end.member if end.member not in taken else _next_number(connection, row, taken)
            numbers[uuid] = number
            taken.add(number)
    return [replace(end, member=numbers[text.name(end.uuid)]) for end in ended]


def _next_number(connection: Connection, row: BatchRow, taken: set[int]) -> int:
    last = connection.execute(
        select(func.max(members.c.member)).where(members.c.batch == row.id)
    ).scalar()
    return max(
        row.tally.total, -1 if last is None else int(last) + 1, *(number + 1 for number in taken)
    )


def _conclude(
    connection: Connection,
    row: BatchRow,
    counts: Tally,
    deliver: Deliver,
    failures: Sequence[MemberEnd],
) -> BatchRow:
    after, due = batch_counts.conclude(counts, clock.now())
    connection.execute(update(batches).where(batches.c.id == row.id).values(_counts(after)))
    sendings = [
        *(_for_failure(each, end) for end in failures for each in _calls(row, Callback.FAILURE)),
        *(each for callback in due for each in _callbacks(row, callback, after, failures)),
    ]
    if sendings:
        deliver(connection, sendings)
    return BatchRow(**{**{name: getattr(row, name) for name in row.__slots__}, "tally": after})


def _calls(row: BatchRow, callback: Callback) -> list[Sending]:
    return [Sending(**sent) for sent in row.callbacks.get(callback.value, ())]


def _callbacks(
    row: BatchRow, callback: Callback, after: Tally, failures: Sequence[MemberEnd]
) -> list[Sending]:
    found = _calls(row, callback)
    if callback is Callback.PROGRESS:
        return [_numbered(sending, after.reported_percent) for sending in found]
    if callback is Callback.CATCH and failures:
        return [_with_failure(sending, failures[0]) for sending in found]
    return found


def _for_failure(sending: Sending, end: MemberEnd) -> Sending:
    return _with_failure(_numbered(sending, end.member), end)


def _with_failure(sending: Sending, end: MemberEnd) -> Sending:
    return replace(sending, failure={"error": end.error or "", "job_id": end.uuid})


def _numbered(sending: Sending, number: int) -> Sending:
    """Return the callback of one percentage or member: a job of its own, with that in its id."""
    uuid = f"{sending.uuid}.{number}"
    changed = {"uuid": uuid, "payload": sending.payload.replace(sending.uuid, uuid)}
    return Sending(**{**sending.as_json(), **changed})


def _counts(counts: Tally) -> dict[str, Any]:
    columns = {name: getattr(counts, name) for name in _COUNTS}
    return {**columns, "told": counts.reported_percent}


def row_of(found: Row[Any]) -> BatchRow:
    """Return the batch of a row of the table."""
    counts = Tally(
        kind=Kind(found.kind),
        allow_failures=bool(found.allow_failures),
        reported_percent=found.told,
        **{name: getattr(found, name) for name in _COUNTS},
    )
    return BatchRow(
        id=found.id,
        name=found.name,
        connection=found.connection,
        queue=found.queue,
        callbacks=json.loads(found.callbacks),
        created_at=found.created_at,
        tally=counts,
    )


def _batch_of(end: MemberEnd) -> str:
    return end.batch
