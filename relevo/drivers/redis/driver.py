"""The Redis driver: `contract.Driver` on Redis 6.2, 7, 8 and Valkey.

Each verb is one Lua script (`lua/`), so each is one atomic step and one round trip; the keys are in
`keys.py`. Leases and delays are by Redis's clock, which all workers share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from redis import Redis

from relevo.drivers import validation
from relevo.drivers.contract import (
    Binding,
    Broadcast,
    Conflict,
    Lease,
    NewJob,
    Placed,
    ReservedJob,
    Subscription,
)
from relevo.drivers.redis import mailboxes, replies
from relevo.drivers.redis.connection import pool_for
from relevo.drivers.redis.idempotency import LostReservations, PutRequests
from relevo.drivers.redis.keys import Keys
from relevo.drivers.redis.kombu_lists import KombuLists, unacked_keys
from relevo.drivers.redis.looking import PORTION
from relevo.drivers.redis.notifier import RedisSubscription
from relevo.drivers.redis.pausing import Pausing
from relevo.drivers.redis.scripts import Library, Scripts, number, pairs

# How many jobs one script call puts: Redis 6 takes no command of more than a million words, and a
# job is ten.
PUT_PORTION = 50_000
# How often Redis is asked for its time, in seconds; in between this machine's clock is trusted to
# run as fast.
CLOCK_CHECK = 60.0
# How many values `reserve.lua` answers per job.
_FIELDS = 7


class RedisDriver(Pausing):
    """Jobs in the Redis at `url`. With `clock`, its time is used instead of the server's (for
    tests).
    """

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
        self._run, self._do = self._scripts.run, self._scripts.guarded
        self._puts, self._lost_reservations = PutRequests(), LostReservations(self._run)
        self._unacked_keys = unacked_keys(options)
        self._kombu_lists = KombuLists(self.client, self.keys, self._scripts)
        self._mailboxes = mailboxes.Mailboxes(self._run)
        self._offset, self._offset_checked = 0.0, float("-inf")
        self._next_due = float("inf")

    def scripts_of(self, library: Library) -> Scripts:
        """Scripts of another package that work on the same jobs, by the same clock."""
        return Scripts(self.pool, self.keys, self._clock, library)

    # --- jobs -------------------------------------------------------------------------------------
    def put(self, jobs: Sequence[NewJob]) -> list[Placed]:
        validation.jobs(jobs)
        if not jobs:
            return []
        request = self._puts.request_number([(job.queue, job.id) for job in jobs])
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
        except BaseException:  # also a signal's: the answer is lost, whatever it was
            self._lost_reservations.add(token, queues)
            raise
        self._next_due = time.monotonic() + float(answer[0]) if answer[0] else float("inf")
        if answer[1] and limit > 0 and self._kombu_lists.adopt(queues):
            self._next_due = 0.0  # they are in the queue now; the next look takes them
        return [
            replies.reserved(answer[at : at + _FIELDS], token)
            for at in range(2, len(answer), _FIELDS)
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
        return sum(self._portions("rescue", queue) for queue in self.queues())

    def _portions(self, name: str, queue: str, *more: str | int) -> int:
        total, portion = 0, PORTION
        while portion >= PORTION:
            portion = int(self._run(name, queue, PORTION, *more))
            total += portion
        return total

    def adopt_unacked(self) -> int:
        """Take over what killed stock Celery workers held here. Returns how many messages.

        Only once those workers have ended: a living one goes on with what is taken from it, and it
        runs twice.
        """
        return self._kombu_lists.adopt_unacked(*self._unacked_keys)

    # --- looking and mending ----------------------------------------------------------------------
    def delete(self, ids: Iterable[str]) -> int:
        wanted = list(ids)
        validation.names("id", wanted)
        return sum(
            int(self._run("delete", *wanted[at : at + PORTION]))
            for at in range(0, len(wanted), PORTION)
        )

    def hasten(self, ids: Iterable[str]) -> int:
        wanted = list(ids)
        validation.names("id", wanted)
        return sum(
            int(self._run("hasten", *wanted[at : at + PORTION]))
            for at in range(0, len(wanted), PORTION)
        )

    def clear(self, queue: str, but: Sequence[str] = ()) -> int:
        validation.queues([queue])
        validation.texts("but", but)
        return self._portions("clear", queue, len(but), *but, *self.keys.kombu(queue))

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
        if time.monotonic() - self._offset_checked > CLOCK_CHECK:
            seconds, microseconds = self._do(self.client.time)
            self._offset_checked = time.monotonic()
            self._offset = seconds + microseconds / 1e6 - self._offset_checked
        return time.monotonic() + self._offset

    def close(self) -> None:
        self.pool.disconnect()


def _fields(jobs: Sequence[NewJob]) -> list[str | int | bytes]:
    """Jobs as `put.lua` takes them. What is bytes already is passed on by the client as it is: a
    fifth of a put.
    """
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
