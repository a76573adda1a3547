"""What the verbs of the contract take and give: jobs on their way in, under lease, and looked at;
sizes; broadcasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a job is in the broker. What became of it afterwards is the store's to say."""

    DELAYED = "delayed"
    PENDING = "pending"
    RESERVED = "reserved"


HIGHEST_PRIORITY, LOWEST_PRIORITY = 0, 9

#: When a job is due that is parked until somebody lifts the suspension: in the year 2286.
UNTIL_LIFTED = 9_999_999_999.0


class Conflict(StrEnum):
    """What becomes of a job whose unique key another one has.

    KEEP: it is not put. REPLACE: if the other one has not started, it gets this one's payload and,
    if this one has a time, that time; else as KEEP. LATEST: the same, but what has started loses
    its key to this one, which is put.
    """

    KEEP = "keep"
    REPLACE = "replace"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be put. `available_at`: not before this instant (None, or one that has passed: at
    once).

    `unique_key`: at most one living job has it, over all queues. `unique_for`: one that was put so
    many seconds ago, or longer, has it no more: it goes to this job. `longest`: a job that this one
    replaces is not put off to later than so many seconds after it was put. `fair_key`: whose turn
    in its queue it takes (a tenant's). An `id` may be had by several: Celery's retry puts the next
    before it acks the last.
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
        """When a job runs that was put at `created_at` and is replaced by this one. None: where it
        stands.
        """
        if self.available_at is None:
            return None
        latest = (
            self.available_at
            if self.max_delay is None
            else min(self.available_at, created_at + self.max_delay)
        )
        return max(now, latest)


@dataclass(frozen=True, slots=True)
class Placed:
    """What `put` did. `created` is False when a living job had the unique key already; `id` is then
    that job's.

    `replaced`: it has this one's payload now.
    """

    id: str
    created: bool
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """The taking of one job. `key` is the driver's own handle of the job, `token` is fresh with
    every reservation.
    """

    key: int | str
    token: str

    @classmethod
    def of(cls, token: str) -> Lease:
        """The lease of a token, for who has only that: behind its last dot stands the handle, as a
        text.
        """
        return cls(token.rpartition(".")[2], token)


@dataclass(frozen=True, slots=True)
class ReservedJob:
    """A job taken by `reserve`. `attempts` counts this taking, `rescues` how often a lease of it
    ended unanswered.
    """

    lease: Lease
    id: str
    queue: str
    payload: str
    priority: int
    attempts: int
    rescues: int


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job taken by `hold`. `was`: as it was before."""

    lease: Lease
    was: JobView


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many jobs a queue holds in each state, and for how many seconds its oldest pending one
    could have run.
    """

    pending: int
    delayed: int
    reserved: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as `peek` shows it. `reserved_until` and `reserved_by` are None unless it is reserved."""

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
    """One message to every mailbox whose binding fits: remote control, replies, events.
    Short-lived, never a job.
    """

    exchange: str
    routing_key: str
    payload: str


@dataclass(frozen=True, slots=True)
class Binding:
    """Which broadcasts a mailbox gets: all of `exchange`, or those whose whole key the `pattern` (a
    `re`) matches.
    """

    exchange: str
    pattern: str = ""
