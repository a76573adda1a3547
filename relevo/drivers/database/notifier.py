"""Wakes idle workers, so that they need not query the table again and again.

* SQLite: `PRAGMA data_version` tells whether another connection has committed. It costs
  microseconds and no lock, and the table is read only when the version has changed. On Linux a
  write to the WAL wakes the worker (`file_watcher.py`), elsewhere it asks every `interval`.
* PostgreSQL: clients send a debounced NOTIFY, and a worker waits on its socket. After silence a
  worker looks for jobs but not for mail. Where LISTEN can't work (PgBouncer in transaction mode),
  the look every `interval` is enough by itself.
* MySQL, MariaDB: there is nothing to listen to, so a worker looks every `interval`.

No client notifies of a job that comes due by itself: the interval of a subscription is never longer
than the time until the next job is due.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, text

from relevo.database import server_options
from relevo.database.connections import Connections
from relevo.database.engine import close_before_fork, sqlite_lock
from relevo.drivers.contract import Subscription
from relevo.drivers.database.file_watcher import FileWatch
from relevo.errors import DriverError

CHANNEL = "relevo"

# Seconds between two looks. SQLite: a job waits for half of it in the median. PostgreSQL: only a
# safety net under NOTIFY.
SQLITE_INTERVAL, POSTGRESQL_INTERVAL, MYSQL_INTERVAL = 0.08, 1.0, 0.1
# SQLite: seconds of the safety net under the watch of the file, and of the first wait after a
# write, which is seen before its commit is complete.
SQLITE_NET, SQLITE_FIRST = 1.0, 0.005
# The shortest interval in seconds: a job that is due and still not taken waits for something else.
SHORTEST_INTERVAL = 0.02

# Seconds between two NOTIFYs of a client: each takes a lock that all committing transactions share.
# A woken worker looks again for longer than that before it goes back to listening.
DEBOUNCE = 0.01
_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")


class Notifier:
    """Wakes the subscriptions of other processes, on PostgreSQL only."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._notified = float("-inf")

    def notify(self) -> None:
        """Tell of new jobs or mail. Call it after the commit."""
        moment = time.monotonic()
        if self._connections.dialect != "postgresql" or moment - self._notified < DEBOUNCE:
            return
        self._notified = moment
        # The change is committed. A worker that isn't woken looks at its next interval.
        with contextlib.suppress(DriverError):
            self._connections.autocommit(lambda connection: connection.execute(_NOTIFY))


class PollingSubscription(Subscription):
    """Reports news at every interval. `until_due`: seconds until something comes due by itself."""

    max_interval = MYSQL_INTERVAL

    def __init__(self, until_due: Callable[[], float]) -> None:
        self._until_due = until_due

    @property
    def interval(self) -> float:  # type: ignore[override]  # a plain attribute in the contract
        return min(self.max_interval, max(SHORTEST_INTERVAL, self._until_due()))

    def poll(self) -> bool:
        """Always True; every second time the news may be mail, too."""
        self.is_mail = not self.is_mail
        return True


class SqliteSubscription(PollingSubscription):
    """Reports each commit of another connection, and the instant at which the next job comes due.

    After a write it looks by the clock, in growing steps, until no more writes follow: a commit
    becomes visible only after its last write, and a busy file must not wake its idle workers at
    each commit.
    """

    def __init__(self, engine: Engine, until_due: Callable[[], float]) -> None:
        super().__init__(until_due)
        self._commits = _CommitCounter(engine)
        self._version: tuple[int, int] | None = None
        self._watch = FileWatch(f"{engine.url.database}-wal")
        self._step: float | None = None

    @property
    def max_interval(self) -> float:  # type: ignore[override]  # see `interval`
        if self._step is not None:
            return self._step
        return SQLITE_INTERVAL if self._watch.fileno() is None else SQLITE_NET

    def fileno(self) -> int | None:
        return self._watch.fileno() if self._step is None else None

    def poll(self) -> bool:
        before, self._version = self._version, self._commits.count()
        self._watch.open()  # by now there is a WAL
        changed = before is None or before != self._version
        self._pace(self._watch.read() or changed)
        return changed or self._until_due() <= 0

    def _pace(self, written: bool) -> None:
        if self._step is None:
            self._step = SQLITE_FIRST if written else None
        elif written or self._step < SQLITE_INTERVAL:
            self._step = min(2 * self._step, SQLITE_INTERVAL)
        else:
            self._step = None

    def close(self) -> None:
        self._commits.close()
        self._watch.close()


class _CommitCounter:
    """Counts the commits of other connections. A thread that forks closes its connection first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None
        self._opened = 0
        close_before_fork(self)

    def count(self) -> tuple[int, int] | None:
        """A value that changes with each commit; None when it can't be read.

        The caller then looks at the table, which raises the cause.
        """
        with sqlite_lock, contextlib.suppress(Exception):
            if self._connection is None:
                self._connection = self._engine.raw_connection()
                self._opened += 1
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
            return self._opened, version
        return None

    def close(self) -> None:
        with sqlite_lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()


class PostgresqlSubscription(PollingSubscription):
    """Reports NOTIFY on a connection of its own, or news at every interval while it has none."""

    max_interval = POSTGRESQL_INTERVAL

    def __init__(self, engine: Engine, until_due: Callable[[], float]) -> None:
        super().__init__(until_due)
        self._engine = engine
        self._dbapi: Any = engine.dialect.dbapi
        self._connection: Any = None
        self._owner = os.getpid()
        self._notified = float("-inf")
        self._connect()

    def _connect(self) -> None:
        arguments, named = self._engine.dialect.create_connect_args(self._engine.url)
        with contextlib.suppress(self._dbapi.Error):
            self._connection = self._dbapi.connect(
                *arguments, **named, **server_options.options("postgresql")["connect_args"]
            )
            self._connection.execute(f"LISTEN {CHANNEL}")

    def fileno(self) -> int | None:
        return (
            None
            if self._connection is None or self._connection.closed
            else self._connection.fileno()
        )

    def poll(self) -> bool:
        self.is_mail = True
        if self.fileno() is None:
            self._connect()
            return True
        try:
            for _ in self._connection.notifies(timeout=0):
                self._notified = time.monotonic()
        except self._dbapi.Error:
            self.close()
        # Mail that came right after a NOTIFY had none of its own (DEBOUNCE). Otherwise silence
        # means that there is no mail.
        else:
            self.is_mail = time.monotonic() - self._notified <= self.max_interval
        # The caller was woken by the socket or has waited for an interval: it should look.
        return True

    def close(self) -> None:
        # In a forked child it is the parent's connection.
        if self._connection is not None and os.getpid() == self._owner:
            self._connection.close()
        self._connection = None


def subscription_for(name: str, engine: Engine, until_due: Callable[[], float]) -> Subscription:
    """The subscription for a database of this dialect."""
    if name == "sqlite":
        return SqliteSubscription(engine, until_due)
    if name == "postgresql":
        return PostgresqlSubscription(engine, until_due)
    return PollingSubscription(until_due)
