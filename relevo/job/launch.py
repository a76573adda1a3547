"""How the members of a batch get into their broker, and what can be done to a batch that runs.

    launch:  open_ (and `before`) -> a page of members put -> counted -> ... -> close: now it can finish

A page is one transaction where the broker is the store's database. Elsewhere it is put first and counted then: a crash
in between leaves a batch that nobody closes, whose members run and count; if the same dispatch is done again (with an
`id`), that page is sent again, and its members count once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import celery
from celery.canvas import Signature, _chain
from sqlalchemy import Connection

from relevo import clock
from relevo.drivers.database import jobs as database_jobs
from relevo.drivers.values import NewJob
from relevo.errors import BatchError, OptionError
from relevo.job import in_place, members
from relevo.job.collect import collected
from relevo.job.delivery import Delivery, delivery_of, sending_of
from relevo.job.members import Membership
from relevo.job.press import Press
from relevo.store import batches, receipts
from relevo.store.batches import BatchRow
from relevo.store.outbox import Deliver, Sending
from relevo.store.tally import Callback, Tally

if TYPE_CHECKING:
    from relevo.job.batch import NewBatch

# So many members are put in one step, and so long may the id of a batch be.
PAGE, LONGEST_ID = 1000, 120


def launch(new: NewBatch, id_: str) -> BatchRow:
    """Send a batch. Returns it as it then is."""
    way = delivery_of(new.app)
    row = _row(new, id_)
    if new.app.conf.task_always_eager:
        return in_place.launch_(way, row, new)
    way.store.write(lambda connection: open_with(connection, way, row))
    way.after_commit(row.connection)
    known = batches.find(way.store, id_) or row
    if not known.tally.streams:  # the same dispatch, done before
        return known
    for page in _pages(new.app, row, itertools.islice(new.members, known.tally.total, None), known.tally.total):
        found = _put(way, row, page)
        if found is None or found.tally.cancelled_at is not None:
            break
    return _close(way, row)


def add(app: Any, row: BatchRow, new: Iterable[Any]) -> BatchRow:
    """Give a batch more members. Raises BatchError when it has finished or was cancelled."""
    way = delivery_of(app)
    if app.conf.task_always_eager:
        return in_place.add(way, row, new)
    job = celery.current_task.request.id if celery.current_task else None
    name = f"added:{row.id}:{job}:{_nth_time(row.id)}" if job else None
    for number, page in enumerate(_batched(new, PAGE)):
        receipt = f"{name}:{number}" if name else None
        found = way.store.write(lambda connection: _add(connection, way, row, page, receipt))  # noqa: B023  at once
        row = found or row
        way.after_commit(row.connection)
    return row


def cancel(app: Any, id_: str) -> BatchRow:
    """Cancel a batch; one whose dispatcher has died is closed. Raises BatchError when there is none."""
    way = delivery_of(app)

    def cancelled(row: BatchRow) -> Tally:
        return replace(row.tally, streams=0, cancelled_at=row.tally.cancelled_at or clock.now())

    row = way.store.write(lambda connection: batches.change(connection, id_, way, cancelled))
    if row is None:
        raise BatchError(f"no batch with the id {id_!r}")
    way.after_commit(row.connection)
    return row


def check_callback(callback: Callback, signature: Any) -> None:
    """Raise OptionError for what can't be a callback of a batch."""
    if not isinstance(signature, Signature):
        hint = "; write task.s()" if hasattr(signature, "s") else ""
        raise OptionError(f"expected {callback.value} to be a task's signature, got {signature!r}{hint}")


# --- the batch ------------------------------------------------------------------------------------------------------
def _row(new: NewBatch, id_: str) -> BatchRow:
    connection = new.connection or new.app.settings.queue_connection
    calls = {
        callback.value: [
            _sending(new, id_, callback, number, signature).written() for number, signature in enumerate(signatures)
        ]
        for callback, signatures in new.callbacks.items()
    }
    return BatchRow(
        id=id_, name=new.called or "batch", connection=connection, queue=new.queue, callbacks=calls,
        created_at=clock.now(), tally=Tally(allow_failures=new.failures_allowed, streams=1),
    )  # fmt: skip


def _sending(new: NewBatch, id_: str, callback: Callback, number: int, signature: Signature) -> Sending:
    """The job of a callback, made now, so that what is wrong with it is an error of the dispatch."""
    call = signature.clone(args=(id_,))
    delay = float(call.options.pop("countdown", None) or 0)
    if new.queue and not call.options.get("queue"):
        call.options["queue"] = new.queue
    uuid = f"{id_}.{callback.value}" + (f".{number}" if number else "")
    connection = new.connection or new.app.settings.queue_connection
    jobs = collected(new.app, call, **({} if isinstance(call, _chain) else {"task_id": uuid}))
    if len(jobs) != 1:
        raise OptionError(f"expected {callback.value} to be one job or a chain, got {signature!r}")
    return sending_of(jobs[0], connection, delay=delay)


def open_with(connection: Connection, deliver: Deliver, row: BatchRow) -> None:
    """Write a batch, unless it was opened before, and hand in what comes before its members."""
    if receipts.is_first(connection, f"batch:{row.id}"):
        batches.open_(connection, row)
        deliver(connection, [Sending(**sent) for sent in row.callbacks.get(Callback.BEFORE.value, ())])


def _close(way: Delivery, row: BatchRow) -> BatchRow:
    def closed(found: BatchRow) -> Tally:
        return replace(found.tally, streams=max(found.tally.streams - 1, 0))

    found = way.store.write(lambda connection: batches.change(connection, row.id, way, closed))
    way.after_commit(row.connection)
    return found or row


# --- its members ----------------------------------------------------------------------------------------------------
def _pages(app: Any, row: BatchRow, given: Iterable[Any], start: int) -> Iterator[list[NewJob]]:
    press = Press(app, {"queue": row.queue} if row.queue else {})
    numbered = (job_of(press, app, row, member, start + number) for number, member in enumerate(given))
    return _batched(numbered, PAGE)


def job_of(press: Press, app: Any, row: BatchRow, member: Any, number: int) -> NewJob:
    """The job of a member: of its first link, if it is a chain."""
    place, uuid = Membership(row.id, number), f"{row.id}.{number}"
    signature = member_of(app, member)
    if not isinstance(signature, _chain):
        return press.job(signature, uuid, place)
    [job] = collected(app, with_links(signature, [place] * len(signature.tasks), row.queue))
    return job


def member_of(app: Any, member: Any) -> Signature:
    """A member as a signature. Raises OptionError for what can't be one."""
    if isinstance(member, (list, tuple)) and member:
        member = celery.chain(*member, app=app)
    if isinstance(member, Signature) and (isinstance(member, _chain) or member.subtask_type is None):
        return member
    hint = "; write task.s()" if hasattr(member, "s") else ""
    raise OptionError(f"expected a member of a batch to be a signature or a chain, got {member!r}{hint}")


def with_links(chain: Any, places: Sequence[Membership], queue: str | None) -> Any:
    """A chain whose links know their places."""
    links = []
    for link, place in zip(chain.tasks, places, strict=True):
        if link.subtask_type is not None and link.subtask_type != "relevo.batch":
            raise OptionError(f"expected the links of a chain in a batch to be single jobs, got {link!r}")
        copy = link.clone()
        copy.options["headers"] = members.with_places(copy.options.get("headers"), place)
        if queue and not copy.options.get("queue"):
            copy.options["queue"] = queue
        links.append(copy)
    return _chain(*links, app=chain.app, **chain.options)


def _put(way: Delivery, row: BatchRow, page: list[NewJob]) -> BatchRow | None:
    driver = way.sharing(row.connection)
    if driver is None:
        way.put(way.broker_of(row.connection), [sending_of(job, row.connection) for job in page])
        return way.store.write(lambda connection: _grow(connection, way, row, len(page)))
    found = way.store.write(lambda connection: _put_and_grow(connection, way, row, page, driver))
    driver.ringer.ring()
    return found


def _put_and_grow(
    connection: Connection, way: Delivery, row: BatchRow, page: list[NewJob], driver: Any
) -> BatchRow | None:
    found = _grow(connection, way, row, len(page))
    if found is not None:
        database_jobs.put(connection, page, driver.now())
    return found


def _grow(connection: Connection, way: Delivery, row: BatchRow, count: int) -> BatchRow | None:
    return batches.change(connection, row.id, way, lambda found: replace(found.tally, total=found.tally.total + count))


def _add(
    connection: Connection, way: Delivery, row: BatchRow, page: Sequence[Any], receipt: str | None
) -> BatchRow | None:
    """One page of further members, in one transaction: rows of the broker's table, or of the outbox."""
    first = receipt is None or receipts.is_first(connection, receipt)
    found = batches.change(connection, row.id, way, lambda found: _grown(found, len(page)) if first else None)
    if found is None:
        raise BatchError(f"no batch with the id {row.id!r}")
    if first:
        start = found.tally.total - len(page)
        for jobs in _pages(way.app, found, page, start):
            way(connection, [sending_of(job, row.connection) for job in jobs])
    return found


def joined(row: BatchRow) -> Tally:
    """The counts of a batch with one more who puts members in. Raises BatchError when it is over."""
    return replace(_grown(row, 0), streams=row.tally.streams + 1)


def _grown(row: BatchRow, count: int) -> Tally:
    counts = row.tally
    if counts.finished_at is not None or counts.cancelled_at is not None:
        what = "has finished" if counts.finished_at is not None else "was cancelled"
        raise BatchError(f"batch {row.id!r} {what}: nothing can be added to it")
    return replace(counts, total=counts.total + count)


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    waiting = iter(items)
    while page := list(itertools.islice(waiting, size)):
        yield page


def _nth_time(batch: str) -> int:
    """How often this attempt of the job has added to the batch before."""
    request = celery.current_task.request
    counts = request.__dict__.setdefault("_relevo_adds", {})
    counts[batch] = counts.get(batch, 0) + 1
    return int(counts[batch])
