"""The contract in memory: every verb checks what it was given, takes the one lock, and does its
step in `jobs`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from relevo import clock
from relevo.drivers import validation
from relevo.drivers.contract import (
    Binding,
    Broadcast,
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
from relevo.drivers.memory.pausing import Pausing


class MemorySubscription(Subscription):
    """Rings when anything was put, put back, broadcast or came due since the last call, whatever
    the queue.
    """

    interval = 0.02

    def __init__(
        self,
        changes: Callable[[], int],
        now: Callable[[], float],
        due: Callable[[float, float], bool],
    ) -> None:
        self._changes, self._now, self._due = changes, now, due
        self._heard, self._heard_at = (
            -1,
            now(),
        )  # what came after the last look and before this is new, too

    def poll(self) -> bool:
        before, self._heard = self._heard, self._changes()
        since, self._heard_at = self._heard_at, self._now()
        return before != self._heard or self._due(since, self._heard_at)


class MemoryDriver(Pausing):
    """A broker that is this object. Several connections of one process share one by its name: see
    `named`.
    """

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
        """The one broker of this process that has this name, made at the first call."""
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
        """When the lease ends that has this token, or None when there is none."""
        with self._lock:
            return self._jobs.lease_ends(token)

    def rescue(self) -> int:
        with self._lock:
            self._changes += 1
            return self._jobs.rescue(self.now())

    # --- looking and mending ----------------------------------------------------------------------
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
            return [job.view(job.state(now)) for job in page], str(page[-1].key) if len(
                page
            ) == limit else ""

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
