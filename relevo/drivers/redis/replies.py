"""Turns the answers of the scripts into the contract's values."""

from __future__ import annotations

from typing import Any

from relevo.drivers.contract import HeldJob, JobView, Lease, Placed, ReservedJob, State

# The number of values for each job from `describe` in `common.lua`.
_DESCRIBED = 11
# The codes of `put.lua` for a job.
_CREATED, _REPLACED = 1, 2


def placed(answer: list[Any]) -> list[Placed]:
    """The answer of `put.lua`: for each job its id and 1 (created), 2 (replaced) or 0 (neither)."""
    pairs = ((answer[at].decode(), answer[at + 1]) for at in range(0, len(answer), 2))
    return [
        Placed(id_, created=code == _CREATED, replaced=code == _REPLACED) for id_, code in pairs
    ]


def reserved(answer: list[Any], token: str) -> ReservedJob:
    """One job of `reserve.lua`: number, id, queue, payload, priority, attempts, rescues."""
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
    """One job of `peek.lua`, which has the order of the values."""
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
    """Jobs from `describe` in `common.lua`: for each queue, state, and the values of `job_view`."""
    jobs = (answer[at : at + _DESCRIBED] for at in range(0, len(answer), _DESCRIBED))
    return [
        job_view(queue.decode(), State(state.decode()), fields) for queue, state, *fields in jobs
    ]


def held(answer: list[Any], token: str) -> list[HeldJob]:
    """The answer of `hold.lua`: the numbers of the jobs, and the jobs as they were."""
    numbers, were = answer
    leases = (Lease(number.decode(), token + number.decode()) for number in numbers)
    return [HeldJob(lease, was) for lease, was in zip(leases, job_views(were), strict=True)]


def text(payload: bytes) -> str:
    """A payload as text. A foreign message may be no UTF-8: its worker dead-letters it."""
    return payload.decode("utf-8", "replace")
