"""The contract in memory: each verb checks its arguments, takes the one lock and calls `Jobs`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from relevo import clock
from relevo.drivers import validation
from relevo.drivers.contract import (
    Binding,
    Broadcast,
    Driver,
    HeldJob,
    JobView,
    Lease,
    NewJob,
    Placed,
    ReservedJob,
    Sizes,
    State,
    Subscription,
)
from relevo.drivers.memory.jobs import Jobs
from relevo.drivers.memory.mailboxes import Mailboxes
from relevo.drivers.values import UNTIL_LIFTED


class MemorySubscription(Subscription):
    """Reports news when any job was put, was released or came due, or any message was broadcast."""

    interval = 0.02

    def __init__(
        self,
        changes: Callable[[], int],
        now: Callable[[], float],
        due: Callable[[float, float], bool],
    ) -> None:
        self._changes, self._now, self._due = changes, now, due
        # -1: changes before this subscription may be news, too.
        self._seen, self._seen_at = -1, now()

    def poll(self) -> bool:
        before, self._seen = self._seen, self._changes()
        since, self._seen_at = self._seen_at, self._now()
        return before != self._seen or self._due(since, self._seen_at)


class MemoryDriver(Driver):
    """A broker that is this object. The connections of a process share it by its name: `named`."""

    name = "memory"
    _known: ClassVar[dict[str, MemoryDriver]] = {}
    _knowing = threading.Lock()

    def __init__(self, clock: Callable[[], float] = clock.now) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs = Jobs()
        self._mailboxes = Mailboxes()
        self._changes = 0

    @classmethod
    def named(cls, name: str) -> MemoryDriver:
        """The broker of this name in this process, made at the first call."""
        with cls._knowing:
            return cls._known.setdefault(name, cls())

    # --- jobs -------------------------------------------------------------------------------------
    def put(self, jobs: Sequence[NewJob]) -> list[Placed]:
        validation.jobs(jobs)
        with self._lock:
            self._changes += 1
            return self._jobs.put(jobs, self.now())

    def reserve(
        self, queues: Sequence[str], limit: int, lease: float, by: str, done: Sequence[Lease] = ()
    ) -> list[ReservedJob]:
        validation.queues(queues)
        validation.count("limit", limit)
        validation.duration("lease", lease)
        validation.name("by", by)
        with self._lock:
            now = self.now()
            self._jobs.remove(self._jobs.held(done))
            self._jobs.rescue(now)
            return [job.reserve(now + lease, by) for job in self._jobs.next(queues, limit, now)]

    def extend(self, leases: Sequence[Lease], lease: float) -> list[Lease]:
        validation.duration("lease", lease)
        with self._lock:
            jobs = self._jobs.held(leases)
            for job in jobs:
                job.reserved_until = self.now() + lease
            held = {job.token for job in jobs}
            return [lease for lease in leases if lease.token not in held]

    def ack(self, leases: Sequence[Lease]) -> int:
        with self._lock:
            return self._jobs.remove(self._jobs.held(leases))

    def release(
        self,
        leases: Sequence[Lease],
        delay: float = 0,
        payload: str | None = None,
        attempts: int | None = None,
    ) -> int:
        validation.delay(delay)
        validation.text("payload", payload or "")
        validation.count("attempts", attempts or 0)
        with self._lock:
            self._changes += 1
            jobs = self._jobs.held(leases)
            for job in jobs:
                job.unlease()
                if delay:
                    job.available_at, job.turn = self.now() + delay, None
                job.payload = job.payload if payload is None else payload
                job.attempts = job.attempts - 1 if attempts is None else attempts
            return len(jobs)

    def unlock(self, leases: Sequence[Lease]) -> int:
        with self._lock:
            return self._jobs.unlock(self._jobs.held(leases))

    def lease_ends(self, token: str) -> float | None:
        """When the lease with this token ends, or None when there is none."""
        with self._lock:
            return self._jobs.lease_ends(token)

    def rescue(self) -> int:
        with self._lock:
            self._changes += 1
            return self._jobs.rescue(self.now())

    # --- inspection and repair --------------------------------------------------------------------
    def queues(self) -> list[str]:
        with self._lock:
            return self._jobs.queues()

    def sizes(self, queue: str) -> Sizes:
        validation.queues([queue])
        with self._lock:
            return self._jobs.sizes(queue, self.now())

    def peek(self, queue: str, state: State, limit: int = 50) -> list[JobView]:
        validation.queues([queue])
        validation.count("limit", limit)
        with self._lock:
            return [job.view(state) for job in self._jobs.first(queue, state, limit, self.now())]

    def find(self, ids: Iterable[str]) -> list[JobView]:
        wanted = set(ids)
        validation.names("id", wanted)
        with self._lock:
            now = self.now()
            return [job.view(job.state(now)) for job in self._jobs.with_ids(wanted)]

    def scan(self, after: str = "", limit: int = 500) -> tuple[list[JobView], str]:
        validation.cursor(after)
        validation.positive_count("limit", limit)
        with self._lock:
            now, page = self.now(), self._jobs.page_after(int(after or 0), limit)
            following = str(page[-1].key) if len(page) == limit else ""
            return [job.view(job.state(now)) for job in page], following

    def hold(self, ids: Iterable[str], lease: float, by: str) -> list[HeldJob]:
        wanted = set(ids)
        validation.hold(wanted, lease, by)
        with self._lock:
            now = self.now()
            free = [
                (job, job.view(job.state(now)))
                for job in self._jobs.with_ids(wanted)
                if job.token is None
            ]
            return [HeldJob(job.hold(now + lease, by), view) for job, view in free]

    def delete(self, ids: Iterable[str]) -> int:
        wanted = set(ids)
        validation.names("id", wanted)
        with self._lock:
            return self._jobs.remove(self._jobs.with_ids(wanted))

    def hasten(self, ids: Iterable[str]) -> int:
        wanted = set(ids)
        validation.names("id", wanted)
        with self._lock:
            self._changes += 1
            return self._jobs.hasten(wanted, self.now())

    def clear(self, queue: str, but: Sequence[str] = ()) -> int:
        validation.queues([queue])
        validation.texts("but", but)
        with self._lock:
            return self._jobs.clear(queue, but)

    # --- pauses -----------------------------------------------------------------------------------
    def pause(self, queue: str, until: float | None = None) -> None:
        validation.queues([queue])
        validation.instant("until", until or 0)
        with self._lock:
            self._jobs.pause(queue, until)

    def resume(self, queue: str) -> None:
        validation.queues([queue])
        with self._lock:
            self._changes += 1
            self._jobs.resume(queue)

    def paused(self) -> dict[str, float | None]:
        with self._lock:
            return self._jobs.paused(self.now())

    def suspend(self, target: str, until: float | None = None) -> None:
        validation.suspension(target, until)
        with self._lock:
            self._changes += 1
            self._jobs.unpark(target, UNTIL_LIFTED if until is None else until, self.now())
            self._jobs.suspended[target] = until

    def lift(self, target: str) -> None:
        validation.suspension(target)
        with self._lock:
            self._changes += 1
            self._jobs.lift(target, self.now())

    def suspended(self) -> dict[str, float | None]:
        with self._lock:
            now, ends = self.now(), self._jobs.suspended
            over = [target for target, end in ends.items() if end is not None and end <= now]
            for target in over:
                self._jobs.lift(target, now)
            return dict(ends)

    def park(self, leases: Sequence[Lease], target: str) -> int:
        validation.suspension(target)
        with self._lock:
            self._changes += 1
            return self._jobs.park(self._jobs.held(leases), target, self.now())

    def parked(self, target: str) -> int:
        validation.suspension(target)
        with self._lock:
            return len(self._jobs.parked(target))

    # --- broadcasts -------------------------------------------------------------------------------
    def subscribe(self, mailbox: str, bindings: Sequence[Binding], ttl: float) -> None:
        validation.name("mailbox", mailbox)
        validation.bindings(bindings)
        validation.duration("ttl", ttl)
        with self._lock:
            self._mailboxes.subscribe(mailbox, bindings, ttl, self.now())

    def unsubscribe(self, mailbox: str) -> None:
        validation.name("mailbox", mailbox)
        with self._lock:
            self._mailboxes.unsubscribe(mailbox)

    def broadcast(self, messages: Sequence[Broadcast]) -> bool:
        validation.broadcasts(messages)
        with self._lock:
            self._changes += 1
            return self._mailboxes.broadcast(messages, self.now())

    def receive(self, mailbox: str) -> list[Broadcast]:
        validation.name("mailbox", mailbox)
        with self._lock:
            return self._mailboxes.receive(mailbox, self.now())

    # --- housekeeping -----------------------------------------------------------------------------
    def watch(self, queues: Sequence[str]) -> Subscription:
        validation.queues(queues)
        return MemorySubscription(lambda: self._changes, self.now, self._came_due)

    def _came_due(self, since: float, now: float) -> bool:
        with self._lock:
            return self._jobs.came_due(since, now)

    def now(self) -> float:
        return self._clock()

    def close(self) -> None:
        pass
