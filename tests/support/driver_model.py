"""The contract's jobs as a dictionary: what a driver should have done after any history of steps.

Nothing here is clever or fast. A job knows the lease it is held by, so it can be held by one worker
at most. A job that is not in the dictionary is gone. Each function does what the contract says of
the method of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relevo.drivers.contract import Conflict, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from relevo.drivers.contract import Lease, NewJob


@dataclass
class ModelJob:
    """A job that exists."""

    id: str
    queue: str
    payload: str
    priority: int
    unique_key: str | None
    available_at: float
    order: int
    created_at: float
    attempts: int = 0
    rescues: int = 0
    lease: Lease | None = None
    until: float = 0
    parked: float | None = None

    def state(self, now: float) -> State:
        if self.lease:
            return State.RESERVED
        return State.DELAYED if self.available_at > now else State.PENDING

    def turn(self) -> tuple[float, ...]:
        return (self.priority, self.available_at, self.order)


@dataclass
class Model:
    """The jobs by id, the pauses, and one suspension."""

    jobs: dict[str, ModelJob] = field(default_factory=dict)
    pauses: dict[str, float | None] = field(default_factory=dict)
    suspended: bool = False
    suspended_until: float = 0
    put_so_far: int = 0

    def put(self, new: NewJob, now: float) -> tuple[str, bool, bool]:
        for job in self.jobs.values():
            if new.unique_key and job.unique_key == new.unique_key:
                if new.on_conflict is not Conflict.KEEP and not job.lease and not job.attempts:
                    job.payload = new.payload
                    if new.available_at is not None:
                        job.available_at = max(
                            now, min(new.available_at, job.created_at + (new.max_delay or 1e9))
                        )
                    return job.id, False, True
                if new.on_conflict is Conflict.LATEST:
                    job.unique_key = None
                    break
                return job.id, False, False
        self.put_so_far += 1
        available_at = max(now, new.available_at or now)
        self.jobs[new.id] = ModelJob(
            new.id,
            new.queue,
            new.payload,
            new.priority,
            new.unique_key,
            available_at,
            self.put_so_far,
            now,
        )
        return new.id, True, False

    def next_jobs(self, queues: Sequence[str], limit: int, now: float) -> list[ModelJob]:
        """The jobs that a reserve must return, in order."""
        running = [queue for queue in dict.fromkeys(queues) if queue not in self.paused(now)]
        return [job for queue in running for job in self.in_state(queue, State.PENDING, now)][
            :limit
        ]

    def suspend(self, until: float, now: float) -> None:
        self.unpark(until, now)
        self.suspended, self.suspended_until = True, until

    def unpark(self, but: float | None, now: float) -> None:
        """Make the jobs due that were parked until another instant and still wait for it."""
        for job in self.jobs.values():
            if job.parked is not None and job.parked != but:
                if job.available_at == job.parked > now:
                    job.available_at = now
                job.parked = None

    def park(self, jobs: Iterable[ModelJob], now: float) -> int:
        put_back = list(jobs)
        for job in put_back:
            job.lease = None
            job.attempts -= 1
            if self.suspended and self.suspended_until > now:
                job.available_at = job.parked = self.suspended_until
        return len(put_back)

    def rescue(self, now: float) -> int:
        ended = [job for job in self.jobs.values() if job.lease and job.until <= now]
        for job in ended:
            job.lease = None
            job.rescues += 1
        return len(ended)

    def held(self, leases: Iterable[Lease]) -> list[ModelJob]:
        """The jobs that these leases still hold."""
        wanted = set(leases)
        return [job for job in self.jobs.values() if job.lease in wanted]

    def forget(self, jobs: Iterable[ModelJob]) -> int:
        gone = list(jobs)
        for job in gone:
            del self.jobs[job.id]
        return len(gone)

    def in_state(self, queue: str, state: State, now: float) -> list[ModelJob]:
        """The jobs of a queue in one state, in the order in which they run."""
        here = [job for job in self.jobs.values() if job.queue == queue and job.state(now) is state]
        return sorted(here, key=ModelJob.turn)

    def paused(self, now: float) -> dict[str, float | None]:
        return {
            queue: until for queue, until in self.pauses.items() if until is None or until > now
        }
