"""Batches and chains of an app that runs its jobs inline (the `sync` connection).

Members run in the calling process, one after the other. The store counts them and calls back as it
does for batches in a broker.
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
from relevo.dispatch import failure_arguments, transactions
from relevo.dispatch.delivery import Delivery, delivery_of
from relevo.drivers import message_codec
from relevo.job import error_report, membership
from relevo.job.membership import Membership
from relevo.store import batch_counts, batch_heartbeats, batches
from relevo.store.batch_counts import Tally
from relevo.store.batches import BatchRow, MemberEnd
from relevo.store.outbox import Sending

_STATES = {states.FAILURE: batch_counts.FAILED, states.REVOKED: batch_counts.CANCELLED}


class InlineDelivery:
    """Stands for a `Delivery`: collects a transaction's jobs, and runs them after the commit."""

    def __init__(self, delivery: Delivery) -> None:
        self.app, self.store = delivery.app, delivery.store
        self._due: list[Sending] = []

    def write(self, step: Any) -> BatchRow | None:
        """Do one step in the store, then run the callbacks that became due with it."""
        found: BatchRow | None = self.store.write(step)
        due, self._due = self._due, []
        for sending in due:
            run_sending(self.app, sending)
        return found

    def hand_in(self, _connection: Connection, sendings: Sequence[Sending]) -> None:
        self._due += [failure_arguments.fill(each) for each in sendings]


# --- batches --------------------------------------------------------------------------------------
def dispatch(new: BatchSpec, id_: str, session: Any = None) -> BatchRow:
    """Run a batch with its callbacks. With a session it runs when that has committed."""
    delivery = InlineDelivery(delivery_of(new.app))
    row = batch_dispatch.build_row(new, id_)
    return transactions.run_or_defer(session, row, lambda: _run_batch(delivery, row, new))


def _run_batch(delivery: InlineDelivery, row: BatchRow, new: BatchSpec) -> BatchRow:
    delivery.write(lambda connection: batch_dispatch.create(connection, delivery.hand_in, row))
    with batch_heartbeats.heartbeat(delivery.store, row.id):
        run_members(delivery, row, new.members, 0)
    _update_counts(delivery, row.id, _close_stream)
    return batches.find(delivery.store, row.id) or row


def add(app: Any, row: BatchRow, new: Iterable[Any]) -> BatchRow:
    """Run further members of a batch. Raises BatchError when it is over."""
    batch_dispatch.check_can_grow(row)
    delivery = InlineDelivery(delivery_of(app))
    found = _update_counts(delivery, row.id, batch_dispatch.reopened)
    if found is not None:
        run_members(delivery, row, new, member_jobs.FIRST_ADDED + found.tally.total)
        _update_counts(delivery, row.id, _close_stream)
    return batches.find(delivery.store, row.id) or row


def run_members(delivery: InlineDelivery, row: BatchRow, given: Iterable[Any], start: int) -> None:
    """Run members, numbered from `start`, until one fails that the batch may not survive."""
    for number, member in enumerate(given, start):
        _update_counts(delivery, row.id, _add_one)
        state, error = _run_member(member_jobs.as_member(delivery.app, member), row, number)
        end = MemberEnd(row.id, number, state, f"{row.id}.{number}", error)
        delivery.write(batches.prepare_ends([end], delivery.hand_in))
        found = batches.find(delivery.store, row.id)
        if found is None or found.tally.cancelled_at is not None:
            return


def _run_member(member: Signature, row: BatchRow, number: int) -> tuple[str, str | None]:
    """Run a member. Returns the state in which it ended, and its error."""
    place = Membership(row.id, number)
    links = member.tasks if isinstance(member, _chain) else [member]
    placed = [
        link.clone().set(
            headers=membership.with_places(link.options.get("headers"), place),
            task_id=f"{row.id}.{number}" + (f".{at}" if at else ""),
        )
        for at, link in enumerate(links)
    ]
    return _run_links(placed)


def _update_counts(delivery: InlineDelivery, id_: str, change: Any) -> BatchRow | None:
    return delivery.write(
        lambda connection: batches.update_counts(connection, id_, delivery.hand_in, change)
    )


def _add_one(row: BatchRow) -> Tally:
    return replace(row.tally, total=row.tally.total + 1)


def _close_stream(row: BatchRow) -> Tally:
    return replace(row.tally, streams=max(row.tally.streams - 1, 0))


# --- single jobs ----------------------------------------------------------------------------------
def run_sending(app: Any, sending: Sending) -> None:
    """Run a job that was made for a broker, and the links that follow it."""
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
    links = (maybe_signature(each, app=app) for each in reversed(embed.get("chain") or ()))
    _run_links([first, *links])


def _run_links(links: Iterable[Signature]) -> tuple[str, str | None]:
    """Run links, each with the result of the one before, until one has not completed.

    Returns the state of the last link that ran, and its error.
    """
    handed: tuple[Any, ...] = ()
    for link in links:
        result = link.apply(handed, throw=False)
        if result.state not in states.READY_STATES or result.state in _STATES:
            return _STATES.get(result.state, batch_counts.COMPLETED), _error_of(result)
        handed = (result.result,)
    return batch_counts.COMPLETED, None


def _error_of(result: Any) -> str | None:
    return error_report.title(result.result) if isinstance(result.result, Exception) else None


# --- chains ---------------------------------------------------------------------------------------
def dispatch_chain(new: chains.NewChain, id_: str, session: Any = None) -> BatchRow:
    """Run the links of a chain. With a session they run when that has committed."""
    delivery, links = InlineDelivery(delivery_of(new.app)), chains.as_links(new)
    row = chains.build_row(new, id_, len(links))
    return transactions.run_or_defer(session, row, lambda: _run_chain(delivery, row, links))


def _run_chain(delivery: InlineDelivery, row: BatchRow, links: Sequence[Signature]) -> BatchRow:
    """Run the links, one after the other, until one has not completed."""
    delivery.write(lambda connection: batch_dispatch.create(connection, delivery.hand_in, row))
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
        if link.task == membership.OPEN_BATCH_TASK:
            # The link ends as its batch did, and the next link gets the batch's id.
            state, handed = _state_of_batch(delivery, uuid), (uuid,)
        end = MemberEnd(row.id, number, state, uuid, _error_of(result))
        delivery.write(batches.prepare_ends([end], delivery.hand_in))
        if state != batch_counts.COMPLETED:
            break
    return batches.find(delivery.store, row.id) or row


def _state_of_batch(delivery: InlineDelivery, id_: str) -> str:
    row = batches.find(delivery.store, id_)
    if row is None or row.tally.allow_failures or row.tally.completed_at is not None:
        return batch_counts.COMPLETED
    return batch_counts.FAILED if row.tally.failed else batch_counts.CANCELLED
