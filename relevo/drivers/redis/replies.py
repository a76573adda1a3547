"""What the scripts answer, as the contract's values."""

from __future__ import annotations

from typing import Any

from relevo.drivers.contract import HeldJob, JobView, Lease, Placed, ReservedJob, State

# How many values `describe` in `common.lua` gives per job.
_DESCRIBED = 11
# What `put.lua` says of a job.
_CREATED, _REPLACED = 1, 2


def placed(answer: list[Any]) -> list[Placed]:
    """Jobs as `put.lua` gives them: id, and 1 for created, 2 for replaced or 0."""
    pairs = ((answer[at].decode(), answer[at + 1]) for at in range(0, len(answer), 2))
    return [
        Placed(id_, created=said == _CREATED, replaced=said == _REPLACED) for id_, said in pairs
    ]


def reserved(answer: list[Any], token: str) -> ReservedJob:
    """A job as `reserve.lua` gives it: number, id, queue, payload, priority, attempts, rescues."""
    number, id_, queue, payload, priority, attempts, rescues = answer
    number = number.decode()
    return ReservedJob(
        lease=Lease(number, token + number),
        id=id_.decode(),
        queue=queue.decode(),
        payload=text(payload),
        priority=priority,
        attempts=attempts,
        rescues=rescues,
    )


def job_view(queue: str, state: State, answer: list[Any]) -> JobView:
    """A job as `peek.lua` gives it; see there for the order."""
    id_, payload, priority, attempts, rescues, available, created, worker, ends = answer
    return JobView(
        id=id_.decode(),
        queue=queue,
        state=state,
        payload=text(payload),
        priority=priority,
        attempts=attempts,
        rescues=rescues,
        available_at=float(available),
        reserved_until=float(ends) if ends else None,
        reserved_by=worker.decode() or None,
        created_at=float(created),
    )


def job_views(answer: list[Any]) -> list[JobView]:
    """Jobs as `describe` in `common.lua` gives them: queue, state, then the fields of `view`."""
    jobs = (answer[at : at + _DESCRIBED] for at in range(0, len(answer), _DESCRIBED))
    return [
        job_view(queue.decode(), State(state.decode()), fields) for queue, state, *fields in jobs
    ]


def held(answer: list[Any], token: str) -> list[HeldJob]:
    """Jobs as `hold.lua` gives them: their numbers, and as they were."""
    numbers, were = answer
    leases = (Lease(number.decode(), token + number.decode()) for number in numbers)
    return [HeldJob(lease, was) for lease, was in zip(leases, job_views(were), strict=True)]


def text(payload: bytes) -> str:
    """A payload. What a stranger left in kombu's list may be no text; it is put aside by whoever
    reads it.
    """
    return payload.decode("utf-8", "replace")
