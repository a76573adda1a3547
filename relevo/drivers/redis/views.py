"""What the scripts answer, as the contract's values."""

from __future__ import annotations

from typing import Any

from relevo.drivers.contract import JobView, Lease, ReservedJob, State


def reserved(answer: list[Any], token: str) -> ReservedJob:
    """A job as `reserve.lua` gives it: number, id, queue, payload, priority, attempts, rescues."""
    number, id_, queue, payload, priority, attempts, rescues = answer
    number = number.decode()
    return ReservedJob(
        lease=Lease(number, token + number), id=id_.decode(), queue=queue.decode(), payload=payload.decode(),
        priority=priority, attempts=attempts, rescues=rescues,
    )  # fmt: skip


def view(queue: str, state: State, answer: list[Any]) -> JobView:
    """A job as `peek.lua` gives it; see there for the order."""
    id_, payload, priority, attempts, rescues, available, created, worker, ends = answer
    return JobView(
        id=id_.decode(), queue=queue, state=state, payload=payload.decode(), priority=priority, attempts=attempts,
        rescues=rescues, available_at=float(available), reserved_until=float(ends) if ends else None,
        reserved_by=worker.decode() or None, created_at=float(created),
    )  # fmt: skip
