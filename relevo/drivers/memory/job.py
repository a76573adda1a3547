"""A job in memory: its state, its lease, and its place in its queue."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from relevo.drivers.contract import JobView, Lease, NewJob, ReservedJob, State


@dataclass(slots=True)
class StoredJob:
    """A living job. `key` counts up with each put. A job with a `token` is reserved."""

    key: int
    id: str
    queue: str
    payload: str
    priority: int
    unique_key: str | None
    available_at: float
    created_at: float
    attempts: int = 0
    rescues: int = 0
    token: str | None = None
    reserved_until: float | None = None
    reserved_by: str | None = None
    fair_key: str | None = None
    turn: float | None = None

    def state(self, now: float) -> State:
        if self.token is not None:
            return State.RESERVED
        return State.DELAYED if self.available_at > now else State.PENDING

    @property
    def has_not_started(self) -> bool:
        return self.token is None and self.attempts == 0

    def replace(self, new: NewJob, now: float) -> None:
        """Take the payload and the time of a new job, and keep the id."""
        self.payload = new.payload
        moved = new.replacement_time(self.created_at, now)
        if moved is not None:
            self.available_at, self.turn = moved, None

    def lease_is_over(self, now: float) -> bool:
        return self.reserved_until is not None and self.reserved_until <= now

    def reserve(self, until: float, by: str) -> ReservedJob:
        lease = self.hold(until, by)
        self.attempts += 1
        return ReservedJob(
            lease, self.id, self.queue, self.payload, self.priority, self.attempts, self.rescues
        )

    def hold(self, until: float, by: str) -> Lease:
        self.token = f"{uuid.uuid4().hex}.{self.key}"
        self.reserved_until, self.reserved_by = until, by
        return Lease(self.key, self.token)

    def unlease(self) -> None:
        self.token = self.reserved_until = self.reserved_by = None

    def view(self, state: State) -> JobView:
        return JobView(
            self.id,
            self.queue,
            state,
            self.payload,
            self.priority,
            self.attempts,
            self.rescues,
            self.available_at,
            self.reserved_until,
            self.reserved_by,
            self.created_at,
        )


def run_order(job: StoredJob) -> tuple[float, ...]:
    """The sort key of the pending jobs of one queue: they run in this order."""
    return (job.priority, job.available_at if job.turn is None else job.turn, job.key)


# The sort keys of the jobs of one queue in each state.
ORDER: dict[State, Callable[[StoredJob], tuple[float, ...]]] = {
    State.PENDING: run_order,
    State.DELAYED: lambda job: (job.available_at, job.priority, job.key),
    State.RESERVED: lambda job: (job.reserved_until or 0, job.key),
}
