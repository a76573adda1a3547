"""The database driver: `contract.Driver` on SQLite, PostgreSQL, MySQL and MariaDB.

    put ------> relevo_jobs ------ claim (SKIP LOCKED, or SQLite's one write lock) ------> a worker
                  ^   |  a reservation first moves what has come due (dues.py)
                  +---+  delayed -> pending, lease ended -> pending

Each verb is one transaction, or one statement where that is one. The rows are described in
`table.py`, the verbs in `jobs.py` and `leases.py`, what differs between the databases in
`dialects.py`; here they meet the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from relevo import clock as local
from relevo.database.connections import Connections
from relevo.database.schema import create_schema, drop_schema
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
from relevo.drivers.database import fair_queue, jobs, leases, mailboxes, notifier
from relevo.drivers.database.dialects import DIALECTS, Dialect
from relevo.drivers.database.pausing import Pausing
from relevo.drivers.database.server_clock import ServerClock
from relevo.drivers.database.stager import Stager

Result = TypeVar("Result")

# How often a process that broadcasts deletes what everybody has read, in seconds.
TRIM = 60.0


class DatabaseDriver(Pausing):
    """Jobs in the database at `url`. With `clock`, its time is used instead of the server's (for
    tests).
    """

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        self.connections = Connections(url)
        self.dialect: Dialect = DIALECTS[self.connections.dialect]
        self.name = self.dialect.name
        self._clock = clock or self._broker_clock()
        self._stager = Stager(self.dialect)
        self.notifier = notifier.Notifier(self.connections)
        self._trimmed = float("-inf")
        self._is_idle = False

    def _broker_clock(self) -> Callable[[], float]:
        if self.name == "sqlite":
            return local.now
        return ServerClock(lambda: self.connections.read(self.dialect.server_time))

    def _brief(self, work: Callable[[Connection], Result], items: int) -> Result:
        """Do what is one statement for so many items as one, where that saves a transaction."""
        if self.dialect.one_statement and items <= leases.MAX_PER_STATEMENT:
            return self.connections.autocommit(work)
        return self.connections.write(work)

    # --- jobs -------------------------------------------------------------------------------------
    def put(self, jobs_: Sequence[NewJob]) -> list[Placed]:
        validation.jobs(jobs_)
        if not jobs_:
            return []
        now = self.now()
        plain = all(job.unique_key is None and job.fair_key is None for job in jobs_)
        plain = plain or (
            len(jobs_) == 1 and jobs_[0].on_conflict is Conflict.KEEP and jobs_[0].fair_key is None
        )
        # given to one of two verbs
        work = lambda connection: jobs.put(connection, jobs_, now)  # noqa: E731
        placed: list[Placed] = (
            self._brief(work, len(jobs_)) if plain else self.connections.write(work)
        )
        self.notifier.notify()
        return placed

    def reserve(
        self, queues: Sequence[str], limit: int, lease: float, by: str, done: Sequence[Lease] = ()
    ) -> list[ReservedJob]:
        validation.queues(queues)
        validation.count("limit", limit)
        validation.duration("lease", lease)
        validation.name("by", by)
        if not queues or not limit:
            self.ack(done)
            return []
        now = self.now()
        if not self.dialect.one_statement:
            # To find nothing SQLite would take its write lock and MySQL four round trips.
            if not done and not self.connections.read(
                lambda c: self._stager.has_work(c, queues, now)
            ):
                return []
            return self._claim(queues, limit, now, now + lease, by, done)
        taken = self._reserve_at_once(queues, limit, now, now + lease, by, done)
        self._is_idle = not taken
        return taken

    def _reserve_at_once(
        self,
        queues: Sequence[str],
        limit: int,
        now: float,
        until: float,
        by: str,
        done: Sequence[Lease],
    ) -> list[ReservedJob]:
        """Where a claim is one statement, and as quick as a look."""
        asked = self._is_idle and not done
        if (
            asked
        ):  # what is due, which is one statement, rather than to move nothing in a transaction
            self.connections.read(lambda connection: self._stager.refresh(connection, now))
            self._stager.postpone(now)
        taken = self._claim(queues, limit, now, until, by, done)
        if not taken and not asked:
            self.connections.read(lambda connection: self._stager.refresh(connection, now))
            if self._stager.next <= now:  # something is due and not moved yet
                return self._claim(queues, limit, now, until, by, ())
        return taken

    def _claim(
        self,
        queues: Sequence[str],
        limit: int,
        now: float,
        until: float,
        by: str,
        done: Sequence[Lease],
    ) -> list[ReservedJob]:
        def claim(connection: Connection) -> list[ReservedJob]:
            return jobs.claim(connection, self.dialect, queues, limit, now, until, by, done)

        def move_and_claim(connection: Connection) -> list[ReservedJob]:
            leases.ack(connection, done)  # before the rescue: a late holder may still ack
            self._stager.stage(connection, now)
            return jobs.claim(connection, self.dialect, queues, limit, now, until, by)

        if self._stager.is_due(now):
            return self.connections.write(move_and_claim)
        return self._brief(claim, len(done))

    def extend(self, leases_: Sequence[Lease], lease: float) -> list[Lease]:
        validation.duration("lease", lease)
        until = self.now() + lease
        work = lambda connection: leases.extend(connection, leases_, until)  # noqa: E731
        return self._brief(work, len(leases_)) if leases_ else []

    def ack(self, leases_: Sequence[Lease]) -> int:
        return (
            self._brief(lambda connection: leases.ack(connection, leases_), len(leases_))
            if leases_
            else 0
        )

    def release(
        self,
        leases_: Sequence[Lease],
        delay: float = 0,
        payload: str | None = None,
        attempts: int | None = None,
    ) -> int:
        validation.delay(delay)
        validation.text("payload", payload or "")
        validation.count("attempts", attempts or 0)
        if not leases_:
            return 0
        now = self.now()
        released = self._brief(
            lambda connection: leases.release(connection, leases_, now, delay, payload, attempts),
            len(leases_),
        )
        self.notifier.notify()
        return released

    def unlock(self, leases_: Sequence[Lease]) -> int:
        return (
            self._brief(lambda connection: leases.unlock(connection, leases_), len(leases_))
            if leases_
            else 0
        )

    def rescue(self) -> int:
        now, rescued = self.now(), jobs.BATCH
        total = 0
        while rescued == jobs.BATCH:
            rescued = self.connections.write(
                lambda connection: jobs.rescue(connection, self.dialect, now)
            )
            total += rescued
        return total

    # --- looking and mending ----------------------------------------------------------------------
    def delete(self, ids: Iterable[str]) -> int:
        wanted = list(dict.fromkeys(ids))
        validation.names("id", wanted)
        return (
            self.connections.write(lambda connection: jobs.remove(connection, wanted))
            if wanted
            else 0
        )

    def hasten(self, ids: Iterable[str]) -> int:
        wanted, now = list(dict.fromkeys(ids)), self.now()
        validation.names("id", wanted)
        hastened = (
            self.connections.write(lambda connection: jobs.hasten(connection, wanted, now))
            if wanted
            else 0
        )
        self.notifier.notify()
        return hastened

    def clear(self, queue: str, but: Sequence[str] = ()) -> int:
        validation.queues([queue])
        validation.texts("but", but)
        self.connections.write(lambda connection: fair_queue.reset(connection, queue))
        total, portion = 0, jobs.BATCH
        while portion == jobs.BATCH:
            portion = self.connections.write(lambda connection: jobs.clear(connection, queue, but))
            total += portion
        return total

    # --- broadcasts -------------------------------------------------------------------------------
    def subscribe(self, mailbox: str, bindings: Sequence[Binding], ttl: float) -> None:
        validation.name("mailbox", mailbox)
        validation.bindings(bindings)
        validation.duration("ttl", ttl)
        now = self.now()
        self.connections.write(
            lambda connection: mailboxes.subscribe(connection, mailbox, bindings, now, ttl)
        )

    def unsubscribe(self, mailbox: str) -> None:
        validation.name("mailbox", mailbox)
        self.connections.write(lambda connection: mailboxes.unsubscribe(connection, mailbox))

    def broadcast(self, messages: Sequence[Broadcast]) -> bool:
        validation.broadcasts(messages)
        if not messages:
            return False
        now = self.now()
        mail = self.connections.read(lambda connection: mailboxes.route(connection, messages, now))
        if mail.messages:
            self.connections.write(lambda connection: mailboxes.send(connection, mail))
            self.notifier.notify()
            self._trim(now)
        return bool(mail.messages)

    def _trim(self, now: float) -> None:
        if time.monotonic() - self._trimmed > TRIM:
            self._trimmed = time.monotonic()
            self.connections.write(lambda connection: mailboxes.trim(connection, now))

    def receive(self, mailbox: str) -> list[Broadcast]:
        validation.name("mailbox", mailbox)
        now = self.now()
        if not self.connections.read(
            lambda connection: mailboxes.has_mail(connection, mailbox, now)
        ):
            return []
        return self.connections.write(
            lambda connection: mailboxes.receive(connection, mailbox, now)
        )

    # --- housekeeping -----------------------------------------------------------------------------
    def watch(self, queues: Sequence[str]) -> Subscription:
        validation.queues(queues)  # a bell here rings for every queue
        return notifier.subscription_for(
            self.name, self.connections.engine, lambda: self._stager.next - self.now()
        )

    def now(self) -> float:
        return self._clock()

    def close(self) -> None:
        self.connections.close()

    def create_schema(self) -> None:
        """Make or upgrade the engine's tables."""
        self.connections.administer(create_schema)

    def drop_schema(self) -> None:
        """Drop the engine's tables, jobs and all."""
        self.connections.administer(drop_schema)
