"""A batch of an app that runs its jobs in place (the sync connection): one member after the other,
counted as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from celery import states
from celery.canvas import Signature, _chain, maybe_signature
from kombu import serialization
from sqlalchemy import Connection

from relevo.batches import chain as chains
from relevo.batches import dispatch as batch_dispatch
from relevo.batches import member_jobs
from relevo.batches.spec import BatchSpec
from relevo.dispatch import transactions
from relevo.dispatch.delivery import Delivery, delivery_of
from relevo.drivers import message_codec
from relevo.job import membership
from relevo.job.membership import Membership
from relevo.store import batch_counts, batch_heartbeats, batches
from relevo.store.batch_counts import Tally
from relevo.store.batches import BatchRow, MemberEnd
from relevo.store.outbox import Sending

_STATES = {states.FAILURE: batch_counts.FAILED, states.REVOKED: batch_counts.CANCELLED}


class Counting:
    """Counts in the store, and runs what is due after the commit."""

    def __init__(self, way: Delivery) -> None:
        self.way = way
        self._due: list[Sending] = []

    def change(self, work: Any) -> BatchRow | None:
        """Do one step of the store's, then run the callbacks it brought about."""
        found: BatchRow | None = self.way.store.write(work)
        due, self._due = self._due, []
        for sending in due:
            run(self.way.app, sending)
        return found

    def __call__(self, _connection: Connection, sendings: Sequence[Sending]) -> None:
        self._due += sendings


def dispatch(new: BatchSpec, id_: str, session: Any = None) -> BatchRow:
    """Run a batch, callbacks and all. With a session it runs when that has committed."""
    way, row = delivery_of(new.app), batch_dispatch.row_of(new, id_)
    return transactions.run_or_defer(session, row, lambda: _run_batch(way, row, new))


def _run_batch(way: Delivery, row: BatchRow, new: BatchSpec) -> BatchRow:
    counting = Counting(way)
    counting.change(lambda connection: batch_dispatch.open_with(connection, counting, row))
    with batch_heartbeats.heartbeat(way.store, row.id):
        run_members(counting, row, new.members, 0)
    counting.change(lambda connection: batches.update_counts(connection, row.id, counting, _closed))
    return batches.find(way.store, row.id) or row


def add(app: Any, row: BatchRow, new: Iterable[Any]) -> BatchRow:
    """Run further members."""
    way = delivery_of(app)
    counting = Counting(way)
    found = counting.change(
        lambda connection: batches.update_counts(
            connection, row.id, counting, batch_dispatch.joined
        )
    )
    if found is not None:
        run_members(counting, row, new, member_jobs.ADDED + found.tally.total)
        counting.change(
            lambda connection: batches.update_counts(connection, row.id, counting, _closed)
        )
    return batches.find(way.store, row.id) or row


def run_members(counting: Counting, row: BatchRow, given: Iterable[Any], start: int) -> None:
    """Run members until one has failed that others may not survive."""
    for number, member in enumerate(given, start):
        counting.change(
            lambda connection: batches.update_counts(connection, row.id, counting, _grown)
        )
        end = MemberEnd(
            row.id,
            number,
            _state(member_jobs.member_of(counting.way.app, member), row, number),
            f"{row.id}.{number}",
        )
        counting.change(batches.prepare_ends([end], counting))
        found = batches.find(counting.way.store, row.id)
        if found is None or found.tally.cancelled_at is not None:
            return


def run(app: Any, sending: Sending) -> None:
    """Run a job that was made to be sent, and the links that follow it."""
    message = message_codec.loads(sending.payload)
    args, kwargs, embed = serialization.loads(
        message["body"],
        message["content-type"],
        message["content-encoding"],
        accept=["application/json"],
    )
    first = app.signature(
        message["headers"]["task"], args=args, kwargs=kwargs, task_id=sending.uuid
    )
    _in_turn(
        [first, *(maybe_signature(each, app=app) for each in reversed(embed.get("chain") or ()))]
    )


def _state(member: Signature, row: BatchRow, number: int) -> str:
    links = member.tasks if isinstance(member, _chain) else [member]
    placed = [
        link.clone().set(
            headers=membership.with_places(link.options.get("headers"), Membership(row.id, number)),
            task_id=f"{row.id}.{number}" + (f".{at}" if at else ""),
        )
        for at, link in enumerate(links)
    ]
    return _in_turn(placed)


def _in_turn(links: Iterable[Signature]) -> str:
    """Run links, each with what the one before returned, until one has not completed. Returns how
    the last ended.
    """
    handed: tuple[Any, ...] = ()
    for link in links:
        result = link.apply(handed, throw=False)
        if result.state not in states.READY_STATES or result.state in _STATES:
            return _STATES.get(result.state, batch_counts.COMPLETED)
        handed = (result.result,)
    return batch_counts.COMPLETED


def _grown(row: BatchRow) -> Tally:
    return replace(row.tally, total=row.tally.total + 1)


def _closed(row: BatchRow) -> Tally:
    return replace(row.tally, streams=max(row.tally.streams - 1, 0))


def dispatch_chain(new: chains.NewChain, id_: str, session: Any = None) -> BatchRow:
    """Run the links of a chain. With a session they run when that has committed."""
    way, links = delivery_of(new.app), chains.links_of(new)
    row = chains.row_of(new, id_, len(links))
    return transactions.run_or_defer(session, row, lambda: _run_chain(way, row, links))


def _run_chain(way: Delivery, row: BatchRow, links: Sequence[Signature]) -> BatchRow:
    """Run the links, one after the other, until one has failed."""
    counting = Counting(way)
    counting.change(lambda connection: batch_dispatch.open_with(connection, counting, row))
    handed: tuple[Any, ...] = ()
    for number, link in enumerate(links):
        place = Membership(row.id, number, each=True)
        uuid = f"{row.id}.{number}"
        result = link.apply(
            handed,
            task_id=uuid,
            headers=membership.with_places(link.options.get("headers"), place),
            throw=False,
        )
        state, handed = _STATES.get(result.state, batch_counts.COMPLETED), (result.result,)
        if (
            link.task == membership.OPEN_BATCH_TASK
        ):  # it is done when its batch is, and hands on the batch's id
            state, handed = _of_batch(way, uuid), (uuid,)
        counting.change(batches.prepare_ends([MemberEnd(row.id, number, state, uuid)], counting))
        if state != batch_counts.COMPLETED:
            break
    return batches.find(way.store, row.id) or row


def _of_batch(way: Delivery, id_: str) -> str:
    row = batches.find(way.store, id_)
    if row is None or row.tally.allow_failures or row.tally.completed_at is not None:
        return batch_counts.COMPLETED
    return batch_counts.FAILED if row.tally.failed else batch_counts.CANCELLED
