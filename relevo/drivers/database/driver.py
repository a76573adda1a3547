"""The database driver: `contract.Driver` on SQLite, PostgreSQL, MySQL and MariaDB.

    put ------> relevo_jobs ------ claim (SKIP LOCKED, or SQLite's one write lock) ------> a worker
                  ^   |  every reservation first moves what is due, at most every SWEEP seconds
                  +---+  delayed -> pending (mature), lease ended -> pending (rescue)

Each verb is one transaction. The rows are described in `table.py`, the verbs in `jobs.py`, what differs between the
databases in `dialects.py`; here they are put together with the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection, text

from relevo import clock as local
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
from relevo.drivers.database import bells, jobs, mailboxes, pauses, peek
from relevo.drivers.database.connections import Connections
from relevo.drivers.database.dialects import DIALECTS, Dialect
from relevo.drivers.database.schema import create_schema, drop_schema, ensure_schema

# Under load, how often a reservation also moves what has come due, in seconds. An idle worker knows when that is.
SWEEP = 0.25
# How often the server is asked for its time, in seconds; in between this machine's clock is trusted to run as fast.
CLOCK_CHECK = 60.0
# A NOTIFY takes a lock that all committing transactions share, so a client sends at most one per queue and this time
# (seconds); a woken worker looks again for longer than that before it goes back to listening.
DEBOUNCE = 0.01
NOTIFY = text("SELECT pg_notify(:channel, :queue)")


class DatabaseDriver(Driver):
    """Jobs in the database at `url`. With `clock`, its time is used instead of the server's (for tests)."""

    def __init__(self, url: str, clock: Callable[[], float] | None = None) -> None:
        self.connections = Connections(url)
        self.dialect: Dialect = DIALECTS[self.connections.dialect]
        self.name = self.dialect.name
        self._clock = clock
        self._offset, self._offset_checked = 0.0, float("-inf")
        self._next_due, self._swept = 0.0, 0.0
        self._notified: dict[str, float] = {}
        self._mailboxes: dict[str, tuple[list[Binding], float, float]] = {}
        if self.name == "sqlite":  # a file needs no administrator; servers get their tables from a migration
            ensure_schema(self.connections.engine)

    # --- jobs -------------------------------------------------------------------------------------------------------
    def put(self, jobs_: Sequence[NewJob]) -> list[Placed]:
        checks.jobs(jobs_)
        now = self.now()

        def work(connection: Connection) -> list[Placed]:
            placed = jobs.put(connection, jobs_, now)
            self._notify(connection, {job.queue for job in jobs_})
            return placed

        return self.connections.write(work) if jobs_ else []

    def reserve(
        self, queues: Sequence[str], limit: int, lease: float, by: str, done: Sequence[Lease] = ()
    ) -> list[ReservedJob]:
        checks.queues(queues)
        checks.count("limit", limit)
        checks.lasting("lease", lease)
        now = self.now()
        wanted = limit > 0 and bool(queues) and (bool(done) or self._look(queues, now))
        if not done and not wanted:
            return []

        def work(connection: Connection) -> list[ReservedJob]:
            if done:
                jobs.ack(connection, done)
            if not wanted:
                return []
            self._sweep(connection, now)
            return jobs.claim(connection, self.dialect, queues, limit, now, now + lease, by)

        return self.connections.write(work)

    def extend(self, leases: Sequence[Lease], lease: float) -> list[Lease]:
        checks.lasting("lease", lease)
        until = self.now() + lease
        return self.connections.write(lambda connection: jobs.extend(connection, leases, until)) if leases else []

    def ack(self, leases: Sequence[Lease]) -> int:
        return self.connections.write(lambda connection: jobs.ack(connection, leases)) if leases else 0

    def release(
        self, leases: Sequence[Lease], delay: float = 0, payload: str | None = None, attempts: int | None = None
    ) -> int:
        checks.delay(delay)
        if not leases:
            return 0
        now = self.now()

        def work(connection: Connection) -> int:
            released = jobs.release(connection, leases, now, delay, payload, attempts)
            self._notify(connection, {""})
            return released

        return self.connections.write(work)

    def rescue(self) -> int:
        now, rescued = self.now(), jobs.BATCH
        total = 0
        while rescued == jobs.BATCH:
            rescued = self.connections.write(lambda connection: jobs.rescue(connection, self.dialect, now))
            total += rescued
        return total

    def _look(self, queues: Sequence[str], now: float) -> bool:
        pending, self._next_due = self.connections.read(lambda connection: jobs.look(connection, queues, now))
        return pending or self._next_due <= now

    def _sweep(self, connection: Connection, now: float) -> None:
        if now < self._next_due and now - self._swept < SWEEP:
            return
        moved = jobs.mature(connection, self.dialect, now), jobs.rescue(connection, self.dialect, now)
        self._swept = now
        # A full batch may have left some; otherwise the next look tells when something is due again.
        self._next_due = now if jobs.BATCH in moved else float("inf")

    def _notify(self, connection: Connection, queues: Iterable[str]) -> None:
        if self.name != "postgresql":
            return
        moment = time.monotonic()
        for queue in queues:
            if moment - self._notified.get(queue, float("-inf")) >= DEBOUNCE:
                self._notified[queue] = moment
                connection.execute(NOTIFY, {"channel": bells.CHANNEL, "queue": queue})

    # --- looking and mending ----------------------------------------------------------------------------------------
    def queues(self) -> list[str]:
        return self.connections.read(peek.queues)

    def sizes(self, queue: str) -> Sizes:
        now = self.now()
        return self.connections.read(lambda connection: peek.sizes(connection, queue, now))

    def peek(self, queue: str, state: State, limit: int = 50) -> list[JobView]:
        return self.connections.read(lambda connection: peek.peek(connection, queue, state, limit))

    def delete(self, ids: Iterable[str]) -> int:
        return self.connections.write(lambda connection: jobs.drop(connection, ids))

    def clear(self, queue: str) -> int:
        return self.connections.write(lambda connection: jobs.clear(connection, queue))

    def pause(self, queue: str, until: float | None = None) -> None:
        checks.queues([queue])
        if until is not None:
            checks.instant("until", until)
        self.connections.write(lambda connection: pauses.pause(connection, queue, until))

    def resume(self, queue: str) -> None:
        def work(connection: Connection) -> None:
            pauses.resume(connection, queue)
            self._notify(connection, {queue})

        self.connections.write(work)

    def paused(self) -> dict[str, float | None]:
        now = self.now()
        return self.connections.read(lambda connection: pauses.paused(connection, now))

    # --- broadcasts -------------------------------------------------------------------------------------------------
    def subscribe(self, mailbox: str, bindings: Sequence[Binding], ttl: float) -> None:
        checks.name("mailbox", mailbox)
        checks.bindings(bindings)
        checks.lasting("ttl", ttl)
        now = self.now()
        known = self._mailboxes.get(mailbox, ([], 0.0, 0.0))[0]
        merged = list(dict.fromkeys([*known, *bindings]))
        self.connections.write(lambda connection: mailboxes.subscribe(connection, mailbox, merged, now, ttl))
        self._mailboxes[mailbox] = (merged, ttl, now)

    def unsubscribe(self, mailbox: str) -> None:
        self._mailboxes.pop(mailbox, None)
        self.connections.write(lambda connection: mailboxes.unsubscribe(connection, mailbox))

    def broadcast(self, messages: Sequence[Broadcast]) -> None:
        checks.broadcasts(messages)
        now = self.now()
        wanted = self.connections.read(lambda connection: mailboxes.wanted(connection, messages, now))
        if not wanted:
            return

        def work(connection: Connection) -> None:
            mailboxes.send(connection, wanted, now)
            self._notify(connection, {"*"})

        self.connections.write(work)

    def receive(self, mailbox: str) -> list[Broadcast]:
        now = self.now()
        self._renew(mailbox, now)
        unread = self.connections.read(lambda connection: mailboxes.unread(connection, mailbox, now))
        if not unread:
            return []
        self.connections.write(lambda connection: mailboxes.mark_read(connection, mailbox, unread[-1].id))
        return [Broadcast(row.exchange, row.routing_key, row.payload) for row in unread]

    def _renew(self, mailbox: str, now: float) -> None:
        bindings, ttl, renewed = self._mailboxes.get(mailbox, ([], 0.0, 0.0))
        if bindings and now - renewed > ttl / 3:
            self.subscribe(mailbox, bindings, ttl)

    # --- housekeeping -----------------------------------------------------------------------------------------------
    def bell(self, queues: Sequence[str]) -> Bell:  # noqa: ARG002  a bell here rings for every queue
        if self.name == "sqlite":
            return bells.SqliteBell(self.connections.engine, lambda: self.now() >= self._next_due)
        if self.name == "postgresql":
            return bells.PostgresqlBell(self.connections.engine)
        return bells.PollingBell()

    def now(self) -> float:
        if self._clock is not None:
            return self._clock()
        if time.monotonic() - self._offset_checked > CLOCK_CHECK:
            self._offset = self.connections.read(self.dialect.server_time) - local.now()
            self._offset_checked = time.monotonic()
        return local.now() + self._offset

    def close(self) -> None:
        self.connections.close()

    def create_schema(self) -> None:
        """Make or upgrade the engine's tables."""
        create_schema(self.connections.engine)

    def drop_schema(self) -> None:
        """Drop the engine's tables, jobs and all."""
        drop_schema(self.connections.engine)
