"""The Redis driver: `contract.Driver` on Redis 6.2, 7, 8 and Valkey.

Each verb is one Lua script (`lua/`): one atomic step and one round trip. `keys.py` has the keys,
`replies.py` decodes the answers of the scripts. Leases and delays go by Redis's clock, which all
workers share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from redis import Redis

from relevo.drivers import validation
from relevo.drivers.contract import (
    Binding,
    Broadcast,
    Conflict,
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
from relevo.drivers.redis import mailboxes, replies
from relevo.drivers.redis.async_puts import AsyncPuts
from relevo.drivers.redis.connection import pool_for
from relevo.drivers.redis.idempotency import LostReservations, PutRequests
from relevo.drivers.redis.keys import Keys
from relevo.drivers.redis.kombu_lists import KombuLists, unacked_keys
from relevo.drivers.redis.notifier import RedisSubscription
from relevo.drivers.redis.scripts import Library, Scripts, number, pairs
from relevo.drivers.values import UNTIL_LIFTED

# The most jobs that one script call rescues, finds, deletes or clears: about 10 ms of Redis's time.
PORTION = 1000
# The most names of queues that one script call looks at: about 8 ms.
NAMES = 100
# The most jobs that one script call puts: Redis 6 takes no command of more than a million words,
# and a job is ten words.
PUT_PORTION = 50_000
# Redis is asked for its time this often; in between this machine's clock is trusted to run as fast.
CLOCK_CHECK_SECONDS = 60.0
# The number of values for each job in the answers of `reserve.lua` and of `peek.lua`.
_RESERVED_FIELDS, _PEEKED_FIELDS = 7, 9
# The last place that `clear.lua` reads: delayed jobs, behind the ten priorities.
_LAST_PLACE = 10


class RedisDriver(Driver):
    """Jobs in the Redis at `url`. Tests may replace the server's time by a `clock`."""

    name = "redis"

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any] | None = None,
        clock: Callable[[], float] | None = None,
        ssl: Any = None,
    ) -> None:
        options = options or {}
        self.pool = pool_for(url, options, ssl)
        self.client = Redis(connection_pool=self.pool)
        self.keys = Keys.from_options(options)
        self._clock = clock
        self._scripts = Scripts(self.pool, self.keys, clock)
        self._run, self._call = self._scripts.run, self._scripts.guarded
        self._puts, self._lost_reservations = PutRequests(), LostReservations(self._run)
        #: The puts of asyncio's callers.
        self.async_puts = AsyncPuts(self.pool, self._scripts.begin, _fields)
        self._unacked_keys = unacked_keys(options)
        self._kombu_lists = KombuLists(self.client, self.keys, self._scripts)
        self._mailboxes = mailboxes.Mailboxes(self._run)
        self._put_keys: dict[tuple[str, str, int], tuple[str, ...]] = {}
        self._offset, self._offset_checked = 0.0, float("-inf")
        self._next_due = float("inf")

    def scripts_of(self, library: Library) -> Scripts:
        """The scripts of another package that works on the same jobs, by the same clock."""
        return Scripts(self.pool, self.keys, self._clock, library)

    # --- jobs -------------------------------------------------------------------------------------
    def put(self, jobs: Sequence[NewJob]) -> list[Placed]:
        validation.jobs(jobs)
        if not jobs:
            return []
        request = self._puts.request_number([(job.queue, job.id) for job in jobs])
        if len(jobs) == 1 and _is_simple(jobs[0]) and (placed := self._put_one(jobs[0], request)):
            return [placed]
        portions = [
            (f"{self._puts.thread}.{at}", request, *_fields(jobs[at : at + PUT_PORTION]))
            for at in range(0, len(jobs), PUT_PORTION)
        ]
        one = len(portions) == 1
        answers = (
            [self._run("put", *portions[0])] if one else self._scripts.run_all("put", portions)
        )
        self._puts.confirm()
        return [placed for answer in answers for placed in replies.placed(answer)]

    def _put_one(self, job: NewJob, request: int) -> Placed | None:
        """Put a simple job. None if its queue is fair, so that it is not as simple as that."""
        thread = self._puts.thread
        key = (thread, job.queue, job.priority)
        keys = self._put_keys.get(key)
        if keys is None:
            if len(self._put_keys) >= PORTION:  # threads come and go
                self._put_keys.clear()
            keys = self._put_keys[key] = self.keys.for_put_one(*key)
        answer = self._run(
            "put_one",
            request,
            job.id.encode(),
            job.queue.encode(),
            job.payload.encode(),
            job.priority,
            *keys,
        )
        if answer is None:
            return None
        self._puts.confirm()
        return Placed(job.id, created=True, replaced=False)

    def reserve(
        self, queues: Sequence[str], limit: int, lease: float, by: str, done: Sequence[Lease] = ()
    ) -> list[ReservedJob]:
        validation.queues(queues)
        validation.count("limit", limit)
        validation.duration("lease", lease)
        validation.name("by", by)
        self._lost_reservations.release()
        token = uuid4().hex[:20] + "."
        lists = [text for queue in queues for text in (queue, *self.keys.kombu_with_count(queue))]
        try:
            answer = self._run(
                "reserve",
                limit,
                number(lease),
                by,
                token,
                len(done),
                *pairs(done),
                len(queues),
                *lists,
            )
        except BaseException:  # also an exception from a signal: the answer is lost
            self._lost_reservations.add(token, queues)
            raise
        self._next_due = time.monotonic() + float(answer[0]) if answer[0] else float("inf")
        if answer[1] and limit > 0 and self._kombu_lists.adopt(queues):
            self._next_due = 0.0  # they are in the queue now; the next reservation takes them
        return [
            replies.reserved(answer[at : at + _RESERVED_FIELDS], token)
            for at in range(2, len(answer), _RESERVED_FIELDS)
        ]

    def extend(self, leases: Sequence[Lease], lease: float) -> list[Lease]:
        validation.duration("lease", lease)
        lost = (
            {token.decode() for token in self._run("extend", number(lease), *pairs(leases))}
            if leases
            else set()
        )
        return [held for held in leases if held.token in lost]

    def ack(self, leases: Sequence[Lease]) -> int:
        return int(self._run("ack", *pairs(leases))) if leases else 0

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
        if not leases:
            return 0
        count = "" if attempts is None else attempts
        renew = 0 if payload is None else 1
        return int(self._run("release", number(delay), count, renew, payload or "", *pairs(leases)))

    def unlock(self, leases: Sequence[Lease]) -> int:
        return int(self._run("unlock", *pairs(leases))) if leases else 0

    def rescue(self) -> int:
        total, jobs, queues = 0, PORTION, PORTION
        while jobs >= PORTION or queues >= PORTION:
            jobs, queues = self._run("rescue", PORTION, PORTION)
            total += jobs
        return total

    def adopt_unacked(self) -> int:
        """Take over the messages that killed stock Celery workers held. Returns how many.

        Call it only when those workers have ended: a living worker finishes its messages, which
        would then run twice.
        """
        return self._kombu_lists.adopt_unacked(*self._unacked_keys)

    # --- inspection and repair --------------------------------------------------------------------
    def queues(self) -> list[str]:
        names: set[str] = set()
        cursor, is_first = b"0", True
        while is_first or cursor != b"0":
            cursor, *page = self._run("queues", cursor, NAMES)
            names |= {name.decode() for name in page}
            is_first = False
        return sorted(names)

    def sizes(self, queue: str) -> Sizes:
        validation.queues([queue])
        pending, delayed, reserved, oldest = self._run("sizes", queue, *self.keys.kombu(queue))
        return Sizes(
            pending, delayed, reserved, max(0.0, self.now() - float(oldest)) if oldest else None
        )

    def peek(self, queue: str, state: State, limit: int = 50) -> list[JobView]:
        validation.queues([queue])
        validation.count("limit", limit)
        answer = self._run("peek", queue, state.value, limit)
        return [
            replies.job_view(queue, state, answer[at : at + _PEEKED_FIELDS])
            for at in range(0, len(answer), _PEEKED_FIELDS)
        ]

    def find(self, ids: Iterable[str]) -> list[JobView]:
        wanted = list(dict.fromkeys(ids))
        validation.names("id", wanted)
        return [
            view
            for portion in _portions(wanted)
            for view in replies.job_views(self._run("find", *portion))
        ]

    def scan(self, after: str = "", limit: int = 500) -> tuple[list[JobView], str]:
        validation.cursor(after)
        validation.positive_count("limit", limit)
        following, *answer = self._run("scan", after or "0", limit)
        return replies.job_views(answer), "" if following == b"0" else following.decode()

    def hold(self, ids: Iterable[str], lease: float, by: str) -> list[HeldJob]:
        wanted, token = list(dict.fromkeys(ids)), f"{uuid4().hex[:20]}."
        validation.hold(wanted, lease, by)
        answers = (
            self._run("hold", number(lease), by, token, *portion) for portion in _portions(wanted)
        )
        return [job for answer in answers for job in replies.held(answer, token)]

    def delete(self, ids: Iterable[str]) -> int:
        wanted = list(ids)
        validation.names("id", wanted)
        return sum(int(self._run("delete", *portion)) for portion in _portions(wanted))

    def hasten(self, ids: Iterable[str]) -> int:
        wanted = list(ids)
        validation.names("id", wanted)
        return sum(int(self._run("hasten", *portion)) for portion in _portions(wanted))

    def clear(self, queue: str, but: Sequence[str] = ()) -> int:
        validation.queues([queue])
        validation.texts("but", but)
        texts: list[str | int] = [len(but), *but, *self.keys.kombu(queue)]
        total, place, number, score = 0, 0, b"", b""
        while place <= _LAST_PLACE:
            cleared, place, number, score = self._run(
                "clear", queue, PORTION, place, number, score, *texts
            )
            total += cleared
        return total

    # --- pauses -----------------------------------------------------------------------------------
    def pause(self, queue: str, until: float | None = None) -> None:
        validation.queues([queue])
        validation.instant("until", until or 0)
        self._call(self.client.hset, self.keys.plain("paused"), queue, _end(until))

    def resume(self, queue: str) -> None:
        validation.queues([queue])
        self._run("resume", queue)

    def paused(self) -> dict[str, float | None]:
        return _running(self._ends("paused"), self.now())

    def suspend(self, target: str, until: float | None = None) -> None:
        validation.suspension(target, until)
        while self._run("suspend", target, _end(until), number(UNTIL_LIFTED), PORTION) >= PORTION:
            pass

    def lift(self, target: str) -> None:
        validation.suspension(target)
        while self._run("lift", target, PORTION) >= PORTION:
            pass

    def suspended(self) -> dict[str, float | None]:
        ends = self._ends("suspended")
        running = _running(ends, self.now())
        for target in ends.keys() - running.keys():  # it has ended, or a process died lifting it
            self.lift(target)
        return running

    def park(self, leases: Sequence[Lease], target: str) -> int:
        validation.suspension(target)
        return int(self._run("park", target, number(UNTIL_LIFTED), *pairs(leases))) if leases else 0

    def parked(self, target: str) -> int:
        validation.suspension(target)
        return int(self._call(self.client.zcard, self.keys.named("parked", target)))

    def _ends(self, key: str) -> dict[str, float | None]:
        ends: dict[bytes, bytes] = self._call(self.client.hgetall, self.keys.plain(key))
        return {name.decode(): float(end) if end else None for name, end in ends.items()}

    # --- broadcasts -------------------------------------------------------------------------------
    def subscribe(self, mailbox: str, bindings: Sequence[Binding], ttl: float) -> None:
        validation.name("mailbox", mailbox)
        validation.bindings(bindings)
        validation.duration("ttl", ttl)
        self._mailboxes.subscribe(mailbox, bindings, ttl)

    def unsubscribe(self, mailbox: str) -> None:
        validation.name("mailbox", mailbox)
        self._mailboxes.unsubscribe(mailbox)

    def broadcast(self, messages: Sequence[Broadcast]) -> bool:
        validation.broadcasts(messages)
        return self._mailboxes.broadcast(messages)

    def receive(self, mailbox: str) -> list[Broadcast]:
        validation.name("mailbox", mailbox)
        return self._mailboxes.receive(mailbox)

    # --- housekeeping -----------------------------------------------------------------------------
    def watch(self, queues: Sequence[str]) -> Subscription:
        validation.queues(queues)
        return RedisSubscription(
            self.pool, self.keys, queues, lambda: self._next_due - time.monotonic()
        )

    def now(self) -> float:
        if self._clock is not None:
            return self._clock()
        if time.monotonic() - self._offset_checked > CLOCK_CHECK_SECONDS:
            seconds, microseconds = self._call(self.client.time)
            self._offset_checked = time.monotonic()
            self._offset = seconds + microseconds / 1e6 - self._offset_checked
        return time.monotonic() + self._offset

    def close(self) -> None:
        self.pool.disconnect()


def _is_simple(job: NewJob) -> bool:
    """Whether `put_one.lua` can put this job."""
    return job.available_at is None and job.unique_key is None and job.fair_key is None


def _fields(jobs: Sequence[NewJob]) -> list[str | int | bytes]:
    """Jobs as `put.lua` takes them. As bytes, because the client's encoding is a fifth of a put."""
    return [
        field
        for job in jobs
        for field in (
            job.queue.encode(),
            job.id.encode(),
            job.payload.encode(),
            job.priority,
            b"" if job.available_at is None else number(job.available_at),
            job.unique_key or b"",
            b"" if job.unique_for is None else number(job.unique_for),
            b"" if job.on_conflict is Conflict.KEEP else job.on_conflict.value,
            b"" if job.max_delay is None else number(job.max_delay),
            job.fair_key or b"",
        )
    ]


def _portions(wanted: list[str]) -> Iterator[list[str]]:
    return (wanted[at : at + PORTION] for at in range(0, len(wanted), PORTION))


def _end(until: float | None) -> str:
    return "" if until is None else number(until)


def _running(ends: dict[str, float | None], now: float) -> dict[str, float | None]:
    return {name: end for name, end in ends.items() if end is None or end > now}
