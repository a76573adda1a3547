"""The values that the verbs of the contract take and return. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a job is in the broker. How it ended is recorded in the store."""

    DELAYED = "delayed"
    PENDING = "pending"
    RESERVED = "reserved"


HIGHEST_PRIORITY, LOWEST_PRIORITY = 0, 9

#: The time to which a job is delayed that is parked without an end: in the year 2286.
UNTIL_LIFTED = 9_999_999_999.0


class Conflict(StrEnum):
    """What happens to a new job when a living job has its unique key.

    KEEP: the new job is not put. REPLACE: a living job that has not started gets the new payload
    and, if the new job has one, the new time; otherwise as KEEP. LATEST: as REPLACE, but a living
    job that has started loses its key to the new job, which is put.
    """

    KEEP = "keep"
    REPLACE = "replace"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to put.

    `id`: several jobs may have one, because Celery's retry puts the next before it acks the last.
    `available_at`: the job must not run before this instant (None, or one in the past: at once).
    `unique_key`: at most one living job has it, over all queues.
    `unique_for`: seconds after its put in which a living job keeps its key against this one.
    `max_delay`: seconds after its put to which this one can delay the job that it replaces.
    `fair_key`: the key (of a tenant, say) under which the job takes turns in its queue.
    """

    queue: str
    payload: str
    id: str
    priority: int = HIGHEST_PRIORITY
    available_at: float | None = None
    unique_key: str | None = None
    unique_for: float | None = None
    on_conflict: Conflict = Conflict.KEEP
    max_delay: float | None = None
    fair_key: str | None = None

    def replacement_time(self, created_at: float, now: float) -> float | None:
        """When a job put at `created_at` runs if this one replaces it. None: its time stays."""
        if self.available_at is None:
            return None
        if self.max_delay is None:
            return max(now, self.available_at)
        return max(now, min(self.available_at, created_at + self.max_delay))


@dataclass(frozen=True, slots=True)
class Placed:
    """What `put` did with one job.

    `created` is False when a living job had the unique key; `id` is then the id of the living job,
    and `replaced` says whether it has the new payload.
    """

    id: str
    created: bool
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """One reservation of one job: the driver's own key of the job, and a token.

    Every reservation has a fresh token.
    """

    key: int | str
    token: str

    def __reduce__(self) -> tuple[Any, ...]:
        return Lease, (self.key, self.token)

    @classmethod
    def of(cls, token: str) -> Lease:
        """The lease of a token alone: the job's key stands behind the token's last dot."""
        return cls(token.rpartition(".")[2], token)


@dataclass(frozen=True, slots=True)
class ReservedJob:
    """A job taken by `reserve`.

    `attempts` includes this attempt. `rescues` counts the leases of the job that ended without an
    ack or a release.
    """

    lease: Lease
    id: str
    queue: str
    payload: str
    priority: int
    attempts: int
    rescues: int

    def __reduce__(self) -> tuple[Any, ...]:
        return ReservedJob, (
            self.lease,
            self.id,
            self.queue,
            self.payload,
            self.priority,
            self.attempts,
            self.rescues,
        )  # a tenth of what the dataclass's own way takes


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job taken by `hold`, and how it `was` before."""

    lease: Lease
    was: JobView


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many jobs a queue holds in each state.

    `oldest`: for how many seconds its oldest pending job could have run (None: nothing is pending).
    """

    pending: int
    delayed: int
    reserved: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as people see it. `reserved_until` and `reserved_by` are None unless it is reserved."""

    id: str
    queue: str
    state: State
    payload: str
    priority: int
    attempts: int
    rescues: int
    available_at: float
    reserved_until: float | None
    reserved_by: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A short-lived message to every mailbox that fits: a control command, a reply, an event."""

    exchange: str
    routing_key: str
    payload: str


@dataclass(frozen=True, slots=True)
class Binding:
    """Which broadcasts a mailbox gets: all of an exchange, or those whose routing key matches.

    `pattern` is a regular expression that must match the whole key; an empty one matches all keys.
    """

    exchange: str
    pattern: str = ""
