"""The memory driver: the whole contract in one process, under one lock, in words as plain as the contract's own.

It is what the contract means where prose could be read two ways, and the broker of tests and trials (`memory://name`).
Every step looks at all jobs, so it is for thousands of them, not for millions; nothing survives the process.
"""

from __future__ import annotations

import heapq
import itertools
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from relevo import clock
from relevo.drivers import checks
from relevo.drivers.contract import (
    Bell,
    Binding,
    Broadcast,
    Driver,
    JobView,
    Lease,
    NewJob,
    Placed,
    ReservedJob,
    Sizes,
    State,
)


@dataclass(slots=True)
class _Job:
    """A living job. `key` counts up, so it is the order of putting too; with a `token` the job is reserved."""

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

    def state(self, now: float) -> State:
        if self.token is not None:
            return State.RESERVED
        return State.DELAYED if self.available_at > now else State.PENDING

    def take(self, until: float, by: str) -> ReservedJob:
        self.token, self.reserved_until, self.reserved_by = uuid.uuid4().hex, until, by
        self.attempts += 1
        lease = Lease(self.key, self.token)
        return ReservedJob(lease, self.id, self.queue, self.payload, self.priority, self.attempts, self.rescues)

    def let_go(self) -> None:
        self.token = self.reserved_until = self.reserved_by = None

    def lease_is_over(self, now: float) -> bool:
        return self.reserved_until is not None and self.reserved_until <= now

    def view(self, state: State) -> JobView:
        return JobView(
            self.id, self.queue, state, self.payload, self.priority, self.attempts, self.rescues,
            self.available_at, self.reserved_until, self.reserved_by, self.created_at,
        )  # fmt: skip


def _turn(job: _Job) -> tuple[float, ...]:
    return (job.priority, job.available_at, job.key)


# The order in which the jobs of one queue run, or come free, in each state.
_ORDER: dict[State, Callable[[_Job], tuple[float, ...]]] = {
    State.PENDING: _turn,
    State.DELAYED: lambda job: (job.available_at, job.priority, job.key),
    State.RESERVED: lambda job: (job.reserved_until or 0, job.key),
}


_SIZED = (State.PENDING, State.DELAYED, State.RESERVED)


@dataclass(slots=True)
class _Mailbox:
    """What one consumer of broadcasts has not read yet."""

    ttl: float
    gone_at: float
    bindings: set[Binding] = field(default_factory=set)
    unread: list[Broadcast] = field(default_factory=list)

    def fits(self, message: Broadcast) -> bool:
        return any(
            binding.exchange == message.exchange
            and (not binding.pattern or re.fullmatch(binding.pattern, message.routing_key))
            for binding in self.bindings
        )


class MemoryBell(Bell):
    """Rings when anything was put, put back or broadcast since the last call, whatever the queue."""

    interval = 0.02

    def __init__(self, changes: Callable[[], int]) -> None:
        self._changes = changes
        self._heard = changes()

    def hear(self) -> bool:
        before, self._heard = self._heard, self._changes()
        return before != self._heard


class MemoryDriver(Driver):
    """A broker that is this object. Several connections of one process share one by its name: see `named`."""

    name = "memory"
    _known: ClassVar[dict[str, MemoryDriver]] = {}
    _knowing = threading.Lock()

    def __init__(self, clock: Callable[[], float] = clock.now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._keys = itertools.count(1)
        self._jobs: dict[int | str, _Job] = {}
        self._unique: dict[str, _Job] = {}
        self._pauses: dict[str, float | None] = {}
        self._mailboxes: dict[str, _Mailbox] = {}
        self._changes = 0

    @classmethod
    def named(cls, name: str) -> MemoryDriver:
        """The one broker of this process that has this name, made at the first call."""
        with cls._knowing:
            return cls._known.setdefault(name, cls())

    # --- jobs -------------------------------------------------------------------------------------------------------
    def put(self, jobs: Sequence[NewJob]) -> list[Placed]:
        checks.jobs(jobs)
        with self._lock:
            self._changes += 1
            return [self._place(job, self.now()) for job in jobs]

    def reserve(
        self, queues: Sequence[str], limit: int, lease: float, by: str, done: Sequence[Lease] = ()
    ) -> list[ReservedJob]:
        checks.queues(queues)
        checks.count("limit", limit)
        checks.lasting("lease", lease)
        checks.name("by", by)
        with self._lock:
            self._forget(self._held(done))
            now = self.now()
            self._rescue(now)
            return [job.take(now + lease, by) for job in self._next(queues, limit, now)]

    def extend(self, leases: Sequence[Lease], lease: float) -> list[Lease]:
        checks.lasting("lease", lease)
        with self._lock:
            held = {Lease(job.key, job.token or ""): job for job in self._held(leases)}
            for job in held.values():
                job.reserved_until = self.now() + lease
            return [lease for lease in leases if lease not in held]

    def ack(self, leases: Sequence[Lease]) -> int:
        with self._lock:
            return self._forget(self._held(leases))

    def release(
        self, leases: Sequence[Lease], delay: float = 0, payload: str | None = None, attempts: int | None = None
    ) -> int:
        checks.delay(delay)
        checks.text("payload", payload or "")
        checks.count("attempts", attempts or 0)
        with self._lock:
            self._changes += 1
            jobs = self._held(leases)
            for job in jobs:
                job.let_go()
                job.available_at = self.now() + delay if delay else job.available_at
                job.payload = job.payload if payload is None else payload
                job.attempts = job.attempts - 1 if attempts is None else attempts
            return len(jobs)

    def rescue(self) -> int:
        with self._lock:
            self._changes += 1
            return self._rescue(self.now())

    # --- looking and mending ----------------------------------------------------------------------------------------
    def queues(self) -> list[str]:
        with self._lock:
            return sorted({job.queue for job in self._jobs.values()})

    def sizes(self, queue: str) -> Sizes:
        checks.queues([queue])
        with self._lock:
            now = self.now()
            pending, delayed, reserved = (self._in(queue, state, now) for state in _SIZED)
            oldest = now - min(job.available_at for job in pending) if pending else None
            return Sizes(len(pending), len(delayed), len(reserved), oldest)

    def peek(self, queue: str, state: State, limit: int = 50) -> list[JobView]:
        checks.queues([queue])
        checks.count("limit", limit)
        with self._lock:
            first = heapq.nsmallest(limit, self._in(queue, state, self.now()), key=_ORDER[state])
            return [job.view(state) for job in first]

    def delete(self, ids: Iterable[str]) -> int:
        wanted = set(ids)
        checks.names("id", wanted)
        with self._lock:
            return self._forget([job for job in self._jobs.values() if job.id in wanted])

    def clear(self, queue: str) -> int:
        checks.queues([queue])
        with self._lock:
            return self._forget([job for job in self._jobs.values() if job.queue == queue and job.token is None])

    def pause(self, queue: str, until: float | None = None) -> None:
        checks.queues([queue])
        checks.instant("until", until or 0)
        with self._lock:
            self._pauses[queue] = until

    def resume(self, queue: str) -> None:
        checks.queues([queue])
        with self._lock:
            self._changes += 1
            self._pauses.pop(queue, None)

    def paused(self) -> dict[str, float | None]:
        with self._lock:
            return self._still_paused(self.now())

    # --- broadcasts -------------------------------------------------------------------------------------------------
    def subscribe(self, mailbox: str, bindings: Sequence[Binding], ttl: float) -> None:
        checks.name("mailbox", mailbox)
        checks.bindings(bindings)
        checks.lasting("ttl", ttl)
        with self._lock:
            box = self._open_mailboxes().setdefault(mailbox, _Mailbox(ttl, 0))
            box.ttl, box.gone_at = ttl, self.now() + ttl
            box.bindings.update(bindings)

    def unsubscribe(self, mailbox: str) -> None:
        checks.name("mailbox", mailbox)
        with self._lock:
            self._mailboxes.pop(mailbox, None)

    def broadcast(self, messages: Sequence[Broadcast]) -> None:
        checks.broadcasts(messages)
        with self._lock:
            self._changes += 1
            for box in self._open_mailboxes().values():
                box.unread.extend(message for message in messages if box.fits(message))

    def receive(self, mailbox: str) -> list[Broadcast]:
        checks.name("mailbox", mailbox)
        with self._lock:
            box = self._open_mailboxes().get(mailbox)
            if box is None:
                return []
            box.gone_at = self.now() + box.ttl
            come, box.unread = box.unread, []
            return come

    # --- housekeeping -----------------------------------------------------------------------------------------------
    def bell(self, queues: Sequence[str]) -> Bell:
        checks.queues(queues)
        return MemoryBell(lambda: self._changes)

    def now(self) -> float:
        return self._clock()

    def close(self) -> None:
        pass

    # --- under the lock ---------------------------------------------------------------------------------------------
    def _place(self, new: NewJob, now: float) -> Placed:
        if new.unique_key is not None and new.unique_key in self._unique:
            return Placed(self._unique[new.unique_key].id, created=False)
        available_at = max(now, new.available_at or 0)
        key = next(self._keys)
        job = _Job(key, new.id, new.queue, new.payload, new.priority, new.unique_key, available_at, created_at=now)
        self._jobs[key] = job
        if job.unique_key is not None:
            self._unique[job.unique_key] = job
        return Placed(job.id, created=True)

    def _next(self, queues: Sequence[str], limit: int, now: float) -> list[_Job]:
        paused = self._still_paused(now)
        rank = {queue: place for place, queue in reversed(list(enumerate(queues))) if queue not in paused}
        waiting = [job for queue in rank for job in self._in(queue, State.PENDING, now)]
        return heapq.nsmallest(limit, waiting, key=lambda job: (rank[job.queue], *_turn(job)))

    def _rescue(self, now: float) -> int:
        jobs = [job for job in self._jobs.values() if job.lease_is_over(now)]
        for job in jobs:
            job.let_go()
            job.rescues += 1
        return len(jobs)

    def _in(self, queue: str, state: State, now: float) -> list[_Job]:
        return [job for job in self._jobs.values() if job.queue == queue and job.state(now) is state]

    def _held(self, leases: Iterable[Lease]) -> list[_Job]:
        """The jobs that these leases still hold, each once."""
        found = ((lease, self._jobs.get(lease.key)) for lease in set(leases))
        return [job for lease, job in found if job is not None and job.token == lease.token]

    def _forget(self, jobs: Iterable[_Job]) -> int:
        gone = list(jobs)
        for job in gone:
            del self._jobs[job.key]
            if job.unique_key is not None:
                del self._unique[job.unique_key]
        return len(gone)

    def _still_paused(self, now: float) -> dict[str, float | None]:
        self._pauses = {queue: until for queue, until in self._pauses.items() if until is None or until > now}
        return dict(self._pauses)

    def _open_mailboxes(self) -> dict[str, _Mailbox]:
        now = self.now()
        self._mailboxes = {name: box for name, box in self._mailboxes.items() if box.gone_at > now}
        return self._mailboxes
