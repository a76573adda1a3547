"""How the members of a batch get into their broker, and what can be done to a batch that runs.

    dispatch:  open_ (and `before`) -> a page of members put -> counted -> ... -> close: now it can finish

A page is one transaction where the broker is the store's database. Elsewhere it is put first and
counted then: after a crash in between its members run and count; if the same dispatch is done again
(with an `id`), that page is sent again, and its members count once. If it isn't, somebody ends the
batch in the end (`abandon`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import celery
from celery.canvas import Signature, _chain
from sqlalchemy import Connection

from relevo import clock
from relevo.batches import member_jobs
from relevo.batches.spec import BatchSpec
from relevo.dispatch import transactions
from relevo.dispatch.capture import captured_jobs
from relevo.dispatch.delivery import Delivery, delivery_of, outbox_entry
from relevo.drivers import validation
from relevo.drivers.database import jobs as database_jobs
from relevo.drivers.values import NewJob
from relevo.errors import BatchError, OptionError
from relevo.job import membership
from relevo.store import batch_heartbeats, batches, receipts
from relevo.store.batch_counts import Callback, Kind, Tally
from relevo.store.batches import BatchRow
from relevo.store.outbox import Deliver, Sending

# So long may the id of a batch be.
LONGEST_ID = 120


def dispatch(new: BatchSpec, id_: str, session: Any = None) -> BatchRow:
    """Send a batch. Returns it as it then is."""
    way = delivery_of(new.app)
    row = row_of(new, id_)
    if session is not None:
        return _in_session(way, row, new, session)
    way.store.write(lambda connection: open_with(connection, way.hand_in, row))
    way.after_commit(row.connection)
    known = batches.find(way.store, id_) or row
    if not known.tally.streams:  # the same dispatch, done before
        return known
    with batch_heartbeats.heartbeat(way.store, id_):
        sent = batch_heartbeats.count_sent(way.store, known)  # by the same dispatch, done before
        for page in member_jobs.pages(
            new.app, row, itertools.islice(new.members, sent, None), sent
        ):
            sent += len(page)
            found = _put(way, known, page, sent)
            if found is None or found.tally.cancelled_at is not None:
                break
    return _close(way, row)


def add(app: Any, row: BatchRow, new: Iterable[Any]) -> BatchRow:
    """Give a batch more members. Raises BatchError when it has finished or was cancelled."""
    way = delivery_of(app)
    if row.tally.kind is Kind.CHORD:
        raise BatchError(
            f"batch {row.id!r} is a chord: a member adds to it with Celery's self.add_to_chord(signature)"
        )
    request = celery.current_task.request if celery.current_task else None
    name = (
        f"added:{row.id}:{membership.run_key(request)}:{_nth_time(row.id)}"
        if request and request.id
        else None
    )
    for number, page in enumerate(member_jobs.batched(new, member_jobs.PAGE)):
        receipt = f"{name}:{number}" if name else None
        # at once
        found = way.store.write(lambda connection: _add(connection, way, row, page, receipt))  # noqa: B023
        row = found or row
        way.after_commit(row.connection)
    return row


def cancel(app: Any, id_: str) -> BatchRow:
    """Cancel a batch; one whose dispatcher has died is closed, one that has finished stays as it
    is.

    Raises BatchError when there is none.
    """
    way = delivery_of(app)

    def cancelled(row: BatchRow) -> Tally | None:
        if row.tally.finished_at is not None:
            return None
        return replace(row.tally, streams=0, cancelled_at=row.tally.cancelled_at or clock.now())

    row = way.store.write(
        lambda connection: batches.update_counts(connection, id_, way.hand_in, cancelled)
    )
    if row is None:
        raise BatchError(f"no batch with the id {id_!r}")
    way.after_commit(row.connection)
    return row


def abandon(way: Delivery) -> None:
    """End the batches whose dispatcher has died."""
    for row in batch_heartbeats.end_silent(way.store, way.hand_in):
        way.after_commit(row.connection)


def check_id(id_: Any) -> None:
    """Raise OptionError for what can't be the id of a batch."""
    if id_ is not None and (not isinstance(id_, str) or not id_ or len(id_) > LONGEST_ID):
        raise OptionError(
            f"expected the id of a batch to be a text of up to {LONGEST_ID}, got {id_!r:.200}"
        )
    validation.text("the id of a batch", id_ or "")


def check_callback(callback: Callback, signature: Any) -> None:
    """Raise OptionError for what can't be a callback of a batch."""
    if not isinstance(signature, Signature):
        hint = "; write task.s()" if hasattr(signature, "s") else ""
        raise OptionError(
            f"expected {callback.value} to be a task's signature, got {signature!r}{hint}"
        )


# --- the batch ------------------------------------------------------------------------------------
def row_of(new: BatchSpec, id_: str) -> BatchRow:
    """The row of a batch in the making, its callbacks made."""
    connection = new.connection or new.app.settings.queue_connection
    calls = {
        callback.value: [
            _sending(new, id_, callback, number, signature).as_json()
            for number, signature in enumerate(signatures)
        ]
        for callback, signatures in new.callbacks.items()
    }
    return BatchRow(
        id=id_,
        name=new.called or "batch",
        connection=connection,
        queue=new.queue,
        callbacks=calls,
        created_at=clock.now(),
        tally=Tally(allow_failures=new.failures_allowed, streams=1),
    )


def _sending(
    new: BatchSpec, id_: str, callback: Callback, number: int, signature: Signature
) -> Sending:
    """The job of a callback, made now, so that what is wrong with it is an error of the dispatch."""
    call = member_jobs.with_first(signature, id_)
    delay = float(call.options.pop("countdown", None) or 0)
    connection = new.connection or new.app.settings.queue_connection
    member_jobs.check_connection(call, connection)
    options = member_jobs.options_of(new.app, new.queue, connection)
    call.options |= {name: value for name, value in options.items() if not call.options.get(name)}
    uuid = f"{id_}.{callback.value}" + (f".{number}" if number else "")
    jobs = captured_jobs(new.app, call, **({} if isinstance(call, _chain) else {"task_id": uuid}))
    if len(jobs) != 1:
        raise OptionError(f"expected {callback.value} to be one job or a chain, got {signature!r}")
    return outbox_entry(jobs[0], connection, delay=delay)


def open_with(connection: Connection, deliver: Deliver, row: BatchRow) -> bool:
    """Write a batch, and hand in what comes before its members. Returns False for one that was
    opened before.
    """
    first = receipts.insert_once(connection, f"batch:{row.id}")
    if first:
        batches.create(connection, row)
        if row.tally.streams:
            batch_heartbeats.beat(connection, row.id)
        deliver(
            connection, [Sending(**sent) for sent in row.callbacks.get(Callback.BEFORE.value, ())]
        )
    return first


def _in_session(way: Delivery, row: BatchRow, new: BatchSpec, session: Any) -> BatchRow:
    """All of it in the session's transaction."""
    connection = transactions.store_connection(way, session)
    transactions.after_commit(session, lambda: way.after_commit(row.connection))
    found: BatchRow | None = row
    if open_with(connection, way.hand_in, row):
        for page in member_jobs.pages(new.app, row, new.members, 0):
            way.hand_in(connection, [outbox_entry(job, row.connection) for job in page])
            batches.update_counts(
                connection,
                row.id,
                way.hand_in,
                lambda found: _longer(found, len(page)),  # noqa: B023  called at once
            )
        found = batches.update_counts(connection, row.id, way.hand_in, _closed)
    return found or row


def _closed(row: BatchRow) -> Tally:
    return replace(row.tally, streams=max(row.tally.streams - 1, 0))


def _close(way: Delivery, row: BatchRow) -> BatchRow:
    found = way.store.write(
        lambda connection: batches.update_counts(connection, row.id, way.hand_in, _closed)
    )
    way.after_commit(row.connection)
    return found or row


# --- its members ----------------------------------------------------------------------------------
def _put(way: Delivery, row: BatchRow, page: list[NewJob], sent: int) -> BatchRow | None:
    """Put a page of members, and count it. Members up to number `sent` are there then."""
    driver = way.local_driver(row.connection)
    if driver is None and not way.store.read(
        lambda connection: batch_heartbeats.has_page(connection, row, sent)
    ):
        way.put_jobs(row.connection, page)

    def count(connection: Connection) -> BatchRow | None:
        first = batch_heartbeats.record_page(connection, row, sent)
        found = batches.update_counts(
            connection,
            row.id,
            way.hand_in,
            lambda found: _longer(found, len(page)) if first else None,
        )
        if (
            first
            and found is not None
            and not found.tally.streams
            and found.tally.cancelled_at is None
        ):
            raise BatchError(
                f"batch {row.id!r} was ended: nothing was heard of its dispatch for too long"
            )
        if driver is not None and first and found is not None:
            database_jobs.put(connection, page, driver.now())
        return found

    found = way.store.write(count)
    if driver is not None:
        driver.notifier.notify()
    return found


def _add(
    connection: Connection, way: Delivery, row: BatchRow, page: Sequence[Any], receipt: str | None
) -> BatchRow | None:
    """One page of further members, in one transaction: rows of the broker's table, or of the
    outbox.
    """
    first = receipt is None or receipts.insert_once(connection, receipt)
    found = batches.update_counts(
        connection, row.id, way.hand_in, lambda found: _grown(found, len(page)) if first else None
    )
    if found is None:
        raise BatchError(f"no batch with the id {row.id!r}")
    if first:
        start = member_jobs.ADDED + found.tally.total - len(page)
        for jobs in member_jobs.pages(way.app, found, page, start):
            way.hand_in(connection, [outbox_entry(job, row.connection) for job in jobs])
    return found


def joined(row: BatchRow) -> Tally:
    """The counts of a batch with one more who puts members in. Raises BatchError when it is over."""
    return replace(_grown(row, 0), streams=row.tally.streams + 1)


def _grown(row: BatchRow, count: int) -> Tally:
    counts = row.tally
    if counts.finished_at is not None or counts.cancelled_at is not None:
        what = "has finished" if counts.finished_at is not None else "was cancelled"
        raise BatchError(f"batch {row.id!r} {what}: nothing can be added to it")
    return _longer(row, count)


def _longer(row: BatchRow, count: int) -> Tally:
    return replace(row.tally, total=row.tally.total + count)


def _nth_time(batch: str) -> int:
    """How often this attempt of the job has added to the batch before."""
    request = celery.current_task.request
    counts = request.__dict__.setdefault("_relevo_adds", {})
    counts[batch] = counts.get(batch, 0) + 1
    return int(counts[batch])
