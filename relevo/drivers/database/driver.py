"""The database driver: `contract.Driver` on SQLite, PostgreSQL, MySQL and MariaDB.

    put ------> relevo_jobs ------ claim (SKIP LOCKED, or SQLite's one write lock) ------> a worker
                  ^   |  a reservation first stages what has come due (stager.py)
                  +---+  delayed -> pending, lease ended -> pending

Each verb is one transaction, or one statement where that is enough. Here the verbs check their
arguments and get the time; the steps are functions of `jobs.py`, `leases.py`, `queries.py`,
`pauses.py` and `mailboxes.py`. `tables.py` describes the rows, `dialects.py` the differences
between the databases.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
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
from relevo.drivers.database import fair_queue, jobs, leases, mailboxes, notifier, pauses, queries
from relevo.drivers.database.dialects import DIALECTS, Claim, Dialect
from relevo.drivers.database.server_clock import ServerClock
from relevo.drivers.database.stager import Stager
from relevo.drivers.values import UNTIL_LIFTED

Result = TypeVar("Result")

# How often a broadcasting process deletes messages that every mailbox has read.
TRIM_SECONDS = 60.0
# The highest id that a row can have.
_HIGHEST_ID = 2**63 - 1


class DatabaseDriver(Driver):
    """Jobs in the database at `url`. Tests may replace the server's time by a `clock`."""

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

    def _in_one_statement(self, work: Callable[[Connection], Result], items: int) -> Result:
        """Do `work` without a transaction around it where one statement is all it takes."""
        if self.dialect.one_statement and items <= leases.MAX_PER_STATEMENT:
            return self.connections.autocommit(work)
        return self.connections.write(work)

    # --- jobs -------------------------------------------------------------------------------------
    def put(self, jobs_: Sequence[NewJob]) -> list[Placed]:
        validation.jobs(jobs_)
        if not jobs_:
            return []
        now, first = self.now(), jobs_[0]
        placed: list[Placed]
        is_plain = all(job.unique_key is None and job.fair_key is None for job in jobs_)
        is_alone = len(jobs_) == 1 and first.on_conflict is Conflict.KEEP and first.fair_key is None
        if is_plain or is_alone:
            placed = self._in_one_statement(lambda c: jobs.put(c, jobs_, now), len(jobs_))
        else:
            placed = self.connections.write(lambda c: jobs.put(c, jobs_, now))
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
        wanted = Claim(queues, limit, now, now + lease, by, done)
        if self.dialect.one_statement:
            taken = self._reserve_in_one_statement(wanted)
            self._is_idle = not taken
            return taken
        # To find nothing, a claim takes SQLite's write lock, and four round trips on MySQL.
        if not done and not self.connections.read(lambda c: self._stager.has_work(c, queues, now)):
            return []
        return self._claim(wanted)

    def _reserve_in_one_statement(self, wanted: Claim) -> list[ReservedJob]:
        """Claim where a claim is one statement, and as quick as a look."""
        was_refreshed = self._is_idle and not wanted.done
        if was_refreshed:
            # One statement tells what is due; staging nothing takes a whole transaction.
            self.connections.read(lambda c: self._stager.refresh(c, wanted.now))
            self._stager.postpone(wanted.now)
        taken = self._claim(wanted)
        if not taken and not was_refreshed:
            self.connections.read(lambda c: self._stager.refresh(c, wanted.now))
            if self._stager.next <= wanted.now:  # something is due and not staged yet
                return self._claim(replace(wanted, done=()))
        return taken

    def _claim(self, wanted: Claim) -> list[ReservedJob]:
        def stage_and_claim(connection: Connection) -> list[ReservedJob]:
            leases.ack(connection, wanted.done)  # before the rescue: a late holder may still ack
            self._stager.stage(connection, wanted.now)
            return jobs.claim(connection, self.dialect, replace(wanted, done=()))

        if self._stager.is_due(wanted.now):
            return self.connections.write(stage_and_claim)
        return self._in_one_statement(
            lambda c: jobs.claim(c, self.dialect, wanted), len(wanted.done)
        )

    def extend(self, leases_: Sequence[Lease], lease: float) -> list[Lease]:
        validation.duration("lease", lease)
        if not leases_:
            return []
        until = self.now() + lease
        return self._in_one_statement(lambda c: leases.extend(c, leases_, until), len(leases_))

    def ack(self, leases_: Sequence[Lease]) -> int:
        if not leases_:
            return 0
        return self._in_one_statement(lambda c: leases.ack(c, leases_), len(leases_))

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
        released = self._in_one_statement(
            lambda c: leases.release(c, leases_, now, delay, payload, attempts), len(leases_)
        )
        self.notifier.notify()
        return released

    def unlock(self, leases_: Sequence[Lease]) -> int:
        if not leases_:
            return 0
        return self._in_one_statement(lambda c: leases.unlock(c, leases_), len(leases_))

    def rescue(self) -> int:
        now = self.now()
        return self._in_batches(lambda c: jobs.rescue(c, self.dialect, now))

    def _in_batches(self, step: Callable[[Connection], int]) -> int:
        """Repeat a step, a transaction each, until it did less than a full batch."""
        total, batch = 0, jobs.BATCH
        while batch == jobs.BATCH:
            batch = self.connections.write(step)
            total += batch
        return total

    # --- inspection and repair --------------------------------------------------------------------
    def queues(self) -> list[str]:
        return self.connections.read(queries.queues)

    def sizes(self, queue: str) -> Sizes:
        validation.queues([queue])
        now = self.now()
        return self.connections.read(lambda c: queries.sizes(c, queue, now))

    def peek(self, queue: str, state: State, limit: int = 50) -> list[JobView]:
        validation.queues([queue])
        validation.count("limit", limit)
        now = self.now()
        return self.connections.read(lambda c: queries.peek(c, queue, state, limit, now))

    def find(self, ids: Iterable[str]) -> list[JobView]:
        wanted, now = list(dict.fromkeys(ids)), self.now()
        validation.names("id", wanted)
        return self.connections.read(lambda c: queries.find(c, wanted, now))

    def scan(self, after: str = "", limit: int = 500) -> tuple[list[JobView], str]:
        validation.cursor(after)
        validation.positive_count("limit", limit)
        now, last_id = self.now(), min(int(after or 0), _HIGHEST_ID)
        return self.connections.read(lambda c: queries.scan(c, last_id, limit, now))

    def hold(self, ids: Iterable[str], lease: float, by: str) -> list[HeldJob]:
        wanted, now = list(dict.fromkeys(ids)), self.now()
        validation.hold(wanted, lease, by)
        return self.connections.write(lambda c: jobs.hold(c, wanted, now, now + lease, by))

    def delete(self, ids: Iterable[str]) -> int:
        wanted = list(dict.fromkeys(ids))
        validation.names("id", wanted)
        return self.connections.write(lambda c: jobs.remove(c, wanted)) if wanted else 0

    def hasten(self, ids: Iterable[str]) -> int:
        wanted, now = list(dict.fromkeys(ids)), self.now()
        validation.names("id", wanted)
        if not wanted:
            return 0
        hastened = self.connections.write(lambda c: jobs.hasten(c, wanted, now))
        self.notifier.notify()
        return hastened

    def clear(self, queue: str, but: Sequence[str] = ()) -> int:
        validation.queues([queue])
        validation.texts("but", but)
        self.connections.write(lambda c: fair_queue.reset(c, queue))
        return self._in_batches(lambda c: jobs.clear(c, queue, but))

    # --- pauses -----------------------------------------------------------------------------------
    def pause(self, queue: str, until: float | None = None) -> None:
        validation.queues([queue])
        validation.instant("until", until or 0)
        self.connections.write(lambda c: pauses.pause(c, queue, until))

    def resume(self, queue: str) -> None:
        validation.queues([queue])
        self.connections.write(lambda c: pauses.resume(c, queue))
        self.notifier.notify()

    def paused(self) -> dict[str, float | None]:
        now = self.now()
        return self.connections.read(lambda c: pauses.paused(c, now))

    def suspend(self, target: str, until: float | None = None) -> None:
        validation.suspension(target, until)
        self.connections.write(lambda c: pauses.suspend(c, target, until))
        # Jobs that are parked to another end come back, and are parked anew.
        self._unpark(target, UNTIL_LIFTED if until is None else until)

    def lift(self, target: str) -> None:
        validation.suspension(target)
        now = self.now()
        self.connections.write(lambda c: pauses.end_suspension(c, target, now))
        self._unpark(target, None)
        self.connections.write(lambda c: pauses.forget_suspension(c, target, now))

    def suspended(self) -> dict[str, float | None]:
        ends, now = self.connections.read(pauses.suspensions), self.now()
        over = [target for target, until in ends.items() if until is not None and until <= now]
        for target in over:  # its time has come, or a process died while it lifted it
            self.lift(target)
        return {target: until for target, until in ends.items() if target not in over}

    def park(self, leases_: Sequence[Lease], target: str) -> int:
        validation.suspension(target)
        now = self.now()
        return (
            self.connections.write(lambda c: pauses.park(c, leases_, target, now)) if leases_ else 0
        )

    def parked(self, target: str) -> int:
        validation.suspension(target)
        return self.connections.read(lambda c: pauses.count_parked(c, target))

    def _unpark(self, target: str, keep: float | None) -> None:
        now, unparked = self.now(), pauses.BATCH
        while unparked == pauses.BATCH:
            unparked = self.connections.write(lambda c: pauses.unpark(c, target, keep, now))
            self.notifier.notify()

    # --- broadcasts -------------------------------------------------------------------------------
    def subscribe(self, mailbox: str, bindings: Sequence[Binding], ttl: float) -> None:
        validation.name("mailbox", mailbox)
        validation.bindings(bindings)
        validation.duration("ttl", ttl)
        now = self.now()
        self.connections.write(lambda c: mailboxes.subscribe(c, mailbox, bindings, now, ttl))

    def unsubscribe(self, mailbox: str) -> None:
        validation.name("mailbox", mailbox)
        self.connections.write(lambda c: mailboxes.unsubscribe(c, mailbox))

    def broadcast(self, messages: Sequence[Broadcast]) -> bool:
        validation.broadcasts(messages)
        if not messages:
            return False
        now = self.now()
        mail = self.connections.read(lambda c: mailboxes.route(c, messages, now))
        if mail.messages:
            self.connections.write(lambda c: mailboxes.send(c, mail))
            self.notifier.notify()
            self._trim(now)
        return bool(mail.messages)

    def _trim(self, now: float) -> None:
        if time.monotonic() - self._trimmed > TRIM_SECONDS:
            self._trimmed = time.monotonic()
            self.connections.write(lambda c: mailboxes.trim(c, now))

    def receive(self, mailbox: str) -> list[Broadcast]:
        validation.name("mailbox", mailbox)
        now = self.now()
        if not self.connections.read(lambda c: mailboxes.has_mail(c, mailbox, now)):
            return []
        return self.connections.write(lambda c: mailboxes.receive(c, mailbox, now))

    # --- housekeeping -----------------------------------------------------------------------------
    def watch(self, queues: Sequence[str]) -> Subscription:
        validation.queues(queues)  # although a subscription here tells of every queue
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
        """Drop the engine's tables with all jobs."""
        self.connections.administer(drop_schema)
