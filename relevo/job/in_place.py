"""A batch of an app that runs its jobs in place (the sync connection): one member after the other, counted as ever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery import states
from celery.canvas import Signature, _chain
from kombu import serialization
from sqlalchemy import Connection

from relevo.drivers import messages
from relevo.job import launch, making, members
from relevo.job.delivery import Delivery
from relevo.job.members import Membership
from relevo.store import batches, dispatching, tally
from relevo.store.batches import BatchRow, MemberEnd
from relevo.store.outbox import Sending
from relevo.store.tally import Tally

if TYPE_CHECKING:
    from relevo.job.batch import NewBatch

_STATES = {states.FAILURE: tally.FAILED, states.REVOKED: tally.CANCELLED}


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


def launch_(way: Delivery, row: BatchRow, new: NewBatch) -> BatchRow:
    """Run a batch, callbacks and all."""
    counting = Counting(way)
    counting.change(lambda connection: launch.open_with(connection, counting, row))
    with dispatching.lives(way.store, row.id):
        run_members(counting, row, new.members, 0)
    counting.change(lambda connection: batches.change(connection, row.id, counting, _closed))
    return batches.find(way.store, row.id) or row


def add(way: Delivery, row: BatchRow, new: Iterable[Any]) -> BatchRow:
    """Run further members."""
    counting = Counting(way)
    found = counting.change(lambda connection: batches.change(connection, row.id, counting, launch.joined))
    if found is not None:
        run_members(counting, row, new, found.tally.total)
        counting.change(lambda connection: batches.change(connection, row.id, counting, _closed))
    return batches.find(way.store, row.id) or row


def run_members(counting: Counting, row: BatchRow, given: Iterable[Any], start: int) -> None:
    """Run members until one has failed that others may not survive."""
    for number, member in enumerate(given, start):
        counting.change(lambda connection: batches.change(connection, row.id, counting, _grown))
        end = MemberEnd(row.id, number, _state(making.member_of(counting.way.app, member), row, number),
                        f"{row.id}.{number}")  # fmt: skip
        counting.change(batches.prepared([end], counting))
        found = batches.find(counting.way.store, row.id)
        if found is None or found.tally.cancelled_at is not None:
            return


def run(app: Any, sending: Sending) -> Any:
    """Run a job that was made to be sent."""
    message = messages.loads(sending.payload)
    body = serialization.loads(message["body"], message["content-type"], message["content-encoding"], accept=["json"])
    task = app.tasks[message["headers"]["task"]]
    return task.apply(tuple(body[0]), body[1], task_id=sending.uuid, throw=False)


def _state(member: Signature, row: BatchRow, number: int) -> str:
    links = member.tasks if isinstance(member, _chain) else [member]
    handed: tuple[Any, ...] = ()
    for at, link in enumerate(links):
        headers = members.with_places(link.options.get("headers"), Membership(row.id, number))
        uuid = f"{row.id}.{number}" + (f".{at}" if at else "")
        result = link.apply(handed, task_id=uuid, headers=headers, throw=False)
        if result.state not in states.READY_STATES or result.state in _STATES:
            return _STATES.get(result.state, tally.COMPLETED)
        handed = (result.result,)
    return tally.COMPLETED


def _grown(row: BatchRow) -> Tally:
    return replace(row.tally, total=row.tally.total + 1)


def _closed(row: BatchRow) -> Tally:
    return replace(row.tally, streams=max(row.tally.streams - 1, 0))


def launch_chain(way: Delivery, row: BatchRow, links: Sequence[Signature]) -> BatchRow:
    """Run the links of a chain, one after the other, until one has failed."""
    counting = Counting(way)
    counting.change(lambda connection: launch.open_with(connection, counting, row))
    handed: tuple[Any, ...] = ()
    for number, link in enumerate(links):
        place = Membership(row.id, number, each=True)
        uuid = f"{row.id}.{number}"
        result = link.apply(handed, task_id=uuid, headers=members.with_places(link.options.get("headers"), place),
                            throw=False)  # fmt: skip
        state = _STATES.get(result.state, tally.COMPLETED)
        counting.change(batches.prepared([MemberEnd(row.id, number, state, uuid)], counting))
        if state != tally.COMPLETED:
            break
        handed = (result.result,)
    return batches.find(way.store, row.id) or row
