"""What an idle worker listens to, so that it need not ask the table again and again.

* SQLite: `PRAGMA data_version` says whether another connection has committed anything. It costs microseconds and no
  lock; the table is read only when it changed. Linux tells of each write to the WAL
  (`filewatch.py`), so it is asked then, and elsewhere every `interval`.
* PostgreSQL: clients send a NOTIFY, debounced; a worker waits on the socket. After silence it looks for jobs, not for
  mail. Where LISTEN can't work (PgBouncer in transaction mode) the look every `interval` is enough
  by itself.
* MySQL, MariaDB: nothing to listen to; the look every `interval` is all.

None of them rings for a job that comes due: a bell's interval is never longer than the time until
the next one does.
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

# Seconds between two looks. SQLite: half of it is the median wait of a job. PostgreSQL: only a net
# under NOTIFY.
SQLITE_INTERVAL, POSTGRESQL_INTERVAL, MYSQL_INTERVAL = 0.08, 1.0, 0.1
# SQLite's net under the file's watch, and the first wait after a write: it is seen before its
# commit is complete.
SQLITE_NET, SQLITE_FIRST = 1.0, 0.005
# No interval is shorter than this: what is due already and still not taken waits for something
# else.
SHORTEST_INTERVAL = 0.02

# A NOTIFY takes a lock that all committing transactions share, so a client sends at most one in
# this time (seconds); a woken worker looks again for longer than that before it goes back to
# listening.
DEBOUNCE = 0.01
_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")


class Notifier:
    """Rings the bells of other processes, where they can be rung. Call it after the commit."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._rung = float("-inf")

    def notify(self) -> None:
        moment = time.monotonic()
        if self._connections.dialect != "postgresql" or moment - self._rung < DEBOUNCE:
            return
        self._rung = moment
        with contextlib.suppress(
            DriverError
        ):  # the step has happened; who isn't woken looks at its next interval
            self._connections.autocommit(lambda connection: connection.execute(_NOTIFY))


class PollingSubscription(Subscription):
    """A bell that knows how long it is, in seconds, until something comes due."""

    max_interval = MYSQL_INTERVAL

    def __init__(self, until_due: Callable[[], float]) -> None:
        self._until_due = until_due

    @property
    # the contract's attribute, worked out when it is asked for
    def interval(self) -> float:  # type: ignore[override]
        return min(self.max_interval, max(SHORTEST_INTERVAL, self._until_due()))

    def poll(self) -> bool:
        """Hears nothing and therefore says yes at every interval; at every second one there may be
        mail, too.
        """
        self.is_mail = not self.is_mail
        return True


class SqliteSubscription(PollingSubscription):
    """Hears every commit of another connection, and the instant at which the next job comes due.

    After a write it looks by the clock, in growing steps, until there are no more: a commit becomes
    visible only after its last write, and a file that others write to all the time must not wake
    its idle workers at each commit.
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
        self._watch.open()  # there is a WAL now
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
    """A connection that is asked for the commits of all others. Any thread that forks closes it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None
        self._opened = 0
        close_before_fork(self)

    def count(self) -> tuple[int, int] | None:
        """Another value than before after a commit; None when it can't be known: look, and let the
        look say why.
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
    """Hears NOTIFY on a connection of its own; says yes at every interval while it has none."""

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
        # mail that came right behind a NOTIFY had none of its own (DEBOUNCE); otherwise silence
        # means no mail
        else:
            self.is_mail = time.monotonic() - self._notified <= self.max_interval
        # whoever calls was woken by the socket or has waited an interval: either is reason to look
        return True

    def close(self) -> None:
        if self._connection is not None and os.getpid() == self._owner:  # else it is the parent's
            self._connection.close()
        self._connection = None


def subscription_for(name: str, engine: Engine, until_due: Callable[[], float]) -> Subscription:
    """The bell that a database has."""
    if name == "sqlite":
        return SqliteSubscription(engine, until_due)
    if name == "postgresql":
        return PostgresqlSubscription(engine, until_due)
    return PollingSubscription(until_due)
