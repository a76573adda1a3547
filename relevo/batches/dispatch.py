"""Puts the members of a batch into their broker, adds members to it, and cancels it.

    dispatch:  create the row, hand in `before`
               -> put a page of members -> count it -> next page ...
               -> close the stream: from now on the batch can finish

Where the broker is the store's database, a page is put and counted in one transaction. Any other
broker gets the page first, and the count follows. After a crash in between, the page's members run
and count. If the same dispatch (with its `id`) is done again, it sends that page again, and each
member counts once. If it is not, a worker ends the batch later (`end_abandoned`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import celery
from celery.canvas import Signature, _chain
from sqlalchemy import Connection

from relevo import clock
from relevo.batches import member_jobs
from relevo.batches.spec import BatchSpec
from relevo.database import after_commit
from relevo.dispatch import failure_arguments, transactions
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
from relevo.transport import put_results

# The longest id of a batch, in characters.
LONGEST_ID = 120


# --- operations -----------------------------------------------------------------------------------
def dispatch(new: BatchSpec, id_: str, session: Any = None) -> BatchRow:
    """Send a batch. Returns its row after that."""
    delivery = delivery_of(new.app)
    row = build_row(new, id_)
    if session is not None:
        return _in_session(delivery, row, new, session)
    delivery.store.write(lambda connection: create(connection, delivery.hand_in, row))
    delivery.after_commit(row.connection)
    known = batches.find(delivery.store, id_) or row
    if not known.tally.streams:  # this dispatch was done before, to its end
        return known
    with batch_heartbeats.heartbeat(delivery.store, id_):
        # This dispatch may have been done before and was cut short: then it goes on from there.
        sent = batch_heartbeats.count_sent(delivery.store, known)
        unsent = itertools.islice(new.members, sent, None)
        for page in member_jobs.member_pages(new.app, row, unsent, sent):
            sent += len(page)
            found = _put_page(delivery, known, page, sent)
            if found is None or found.tally.cancelled_at is not None:
                break
    return _close(delivery, row)


def add(app: Any, row: BatchRow, new: Iterable[Any]) -> BatchRow:
    """Add members to a batch. Raises BatchError when it has finished or was cancelled.

    A page of members that a job adds has a receipt: the second run of a redelivered job adds
    nothing.
    """
    delivery = delivery_of(app)
    check_can_grow(row)
    request = celery.current_task.request if celery.current_task else None
    name = (
        f"added:{row.id}:{membership.run_key(request)}:{_count_addition(row.id)}"
        if request and request.id
        else None
    )
    for number, page in enumerate(member_jobs.chunked(new, member_jobs.PAGE)):
        receipt = f"{name}:{number}" if name else None
        step = partial(_add_page, delivery=delivery, row=row, page=page, receipt=receipt)
        row = delivery.store.write(step) or row
        delivery.after_commit(row.connection)
    return row


def cancel(app: Any, id_: str) -> BatchRow:
    """Cancel a batch. One that has finished stays as it is.

    The stream of its members is closed, so that a batch whose dispatcher has died ends, too. Raises
    BatchError for an unknown id.
    """
    delivery = delivery_of(app)

    def cancelled(row: BatchRow) -> Tally | None:
        if row.tally.finished_at is not None:
            return None
        return replace(row.tally, streams=0, cancelled_at=row.tally.cancelled_at or clock.now())

    row = delivery.store.write(
        lambda connection: batches.update_counts(connection, id_, delivery.hand_in, cancelled)
    )
    if row is None:
        raise BatchError(f"no batch with the id {id_!r}")
    delivery.after_commit(row.connection)
    return row


def check_can_grow(row: BatchRow) -> None:
    """Raise BatchError for a chain or a chord: `add` is for members that run side by side."""
    if row.tally.kind is Kind.CHORD:
        raise BatchError(
            f"batch {row.id!r} is a chord: a member adds to it with Celery's"
            " self.add_to_chord(signature)"
        )
    if row.tally.kind is Kind.CHAIN:
        raise BatchError(
            f"batch {row.id!r} is a chain: its links are given before its dispatch, with"
            " app.chain(...).add(link); a link goes on with self.replace(signature)"
        )


def end_abandoned(delivery: Delivery) -> None:
    """End the batches whose dispatcher has died while it sent their members."""
    for row in batch_heartbeats.end_silent(delivery.store, delivery.hand_in):
        delivery.after_commit(row.connection)


def check_id(id_: Any) -> None:
    """Raise OptionError for a value that can't be the id of a batch."""
    if id_ is not None and (not isinstance(id_, str) or not id_ or len(id_) > LONGEST_ID):
        raise OptionError(
            f"expected the id of a batch to be a text of up to {LONGEST_ID}, got {id_!r:.200}"
        )
    validation.text("the id of a batch", id_ or "")


def check_callback(callback: Callback, signature: Any) -> None:
    """Raise OptionError for a value that can't be a callback of a batch."""
    if not isinstance(signature, Signature):
        hint = "; write task.s()" if hasattr(signature, "s") else ""
        name = "allow_failures" if callback is Callback.FAILURE else callback.value
        wanted = "True, False or " if callback is Callback.FAILURE else ""
        raise OptionError(
            f"expected {name} to be {wanted}a task's signature, got {signature!r}{hint}"
        )


# --- the batch ------------------------------------------------------------------------------------
def build_row(new: BatchSpec, id_: str) -> BatchRow:
    """The row of a new batch, with the jobs of its callbacks."""
    connection = new.connection or new.app.settings.queue_connection
    calls = {
        callback.value: [
            _callback_job(new, id_, callback, number, signature).as_json()
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


def _callback_job(
    new: BatchSpec, id_: str, callback: Callback, number: int, signature: Signature
) -> Sending:
    """The job of a callback. It is made at the dispatch, so that its errors are raised there."""
    call = member_jobs.prepend_argument(signature, id_)
    if callback in {Callback.CATCH, Callback.FAILURE}:
        first = call.tasks[0] if isinstance(call, _chain) else call
        first["kwargs"] = {**first["kwargs"], **failure_arguments.reserve(new.app, first)}
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


def create(connection: Connection, deliver: Deliver, row: BatchRow) -> bool:
    """Write a batch and hand in its `before` callbacks.

    Returns False, and does nothing, for a batch that was created before.
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


def _in_session(delivery: Delivery, row: BatchRow, new: BatchSpec, session: Any) -> BatchRow:
    """Create the batch and put all its members in the session's transaction."""
    connection = transactions.store_connection(delivery, session)
    found: BatchRow | None = row
    with transactions.handing_in(delivery, session, [row.connection]):
        if create(connection, delivery.hand_in, row):
            for page in member_jobs.member_pages(new.app, row, new.members, 0):
                delivery.hand_in(connection, [outbox_entry(job, row.connection) for job in page])
                grow = partial(_add_total, count=len(page))
                batches.update_counts(connection, row.id, delivery.hand_in, grow)
            found = batches.update_counts(connection, row.id, delivery.hand_in, _close_stream)
    return found or row


def _close_stream(row: BatchRow) -> Tally:
    return replace(row.tally, streams=max(row.tally.streams - 1, 0))


def _close(delivery: Delivery, row: BatchRow) -> BatchRow:
    found = delivery.store.write(
        lambda connection: batches.update_counts(
            connection, row.id, delivery.hand_in, _close_stream
        )
    )
    delivery.after_commit(row.connection)
    return found or row


# --- its members ----------------------------------------------------------------------------------
def _put_page(delivery: Delivery, row: BatchRow, page: list[NewJob], sent: int) -> BatchRow | None:
    """Put a page of members and count it. After it the members up to number `sent` are sent."""
    driver = delivery.local_driver(row.connection)
    if driver is None and not delivery.store.read(
        lambda connection: batch_heartbeats.has_page(connection, row, sent)
    ):
        delivery.put_jobs(row.connection, page)

    def count(connection: Connection) -> BatchRow | None:
        first = batch_heartbeats.record_page(connection, row, sent)
        found = batches.update_counts(
            connection,
            row.id,
            delivery.hand_in,
            lambda found: _add_total(found, len(page)) if first else None,
        )
        if (
            first
            and found is not None
            and not found.tally.streams
            and found.tally.cancelled_at is None
        ):
            raise BatchError(
                f"batch {row.id!r} was ended: its dispatch gave no sign of life for too long"
            )
        if driver is not None and first and found is not None:
            placed = database_jobs.put(connection, page, driver.now())
            after_commit.add(connection, partial(put_results.announce, page, placed))
        return found

    found = delivery.store.write(count)
    if driver is not None:
        driver.notifier.notify()
    return found


def _add_page(
    connection: Connection,
    delivery: Delivery,
    row: BatchRow,
    page: Sequence[Any],
    receipt: str | None,
) -> BatchRow | None:
    """Add one page of members, in one transaction. They are rows of the broker's table or of the
    outbox.
    """
    first = receipt is None or receipts.insert_once(connection, receipt)
    found = batches.update_counts(
        connection,
        row.id,
        delivery.hand_in,
        lambda found: _grow(found, len(page)) if first else None,
    )
    if found is None:
        raise BatchError(f"no batch with the id {row.id!r}")
    if first:
        start = member_jobs.FIRST_ADDED + found.tally.total - len(page)
        for jobs in member_jobs.member_pages(delivery.app, found, page, start):
            delivery.hand_in(connection, [outbox_entry(job, row.connection) for job in jobs])
    return found


def reopened(row: BatchRow) -> Tally:
    """The counts of a batch with one more open stream of members. Raises BatchError when the batch
    is over.
    """
    return replace(_grow(row, 0), streams=row.tally.streams + 1)


def _grow(row: BatchRow, count: int) -> Tally:
    """The counts with more members. Raises BatchError when the batch is over."""
    counts = row.tally
    if counts.finished_at is not None or counts.cancelled_at is not None:
        what = "has finished" if counts.finished_at is not None else "was cancelled"
        raise BatchError(f"batch {row.id!r} {what}: nothing can be added to it")
    return _add_total(row, count)


def _add_total(row: BatchRow, count: int) -> Tally:
    return replace(row.tally, total=row.tally.total + count)


def _count_addition(batch: str) -> int:
    """Count one more addition of this attempt to a batch. Returns how many there are now."""
    request = celery.current_task.request
    counts = request.__dict__.setdefault("_relevo_adds", {})
    counts[batch] = counts.get(batch, 0) + 1
    return int(counts[batch])
