"""What an idle worker listens to, so that it need not ask the table again and again.

* SQLite: `PRAGMA data_version` says whether another connection has committed anything. It costs microseconds and no
  lock, so it may be asked every `interval`; the table is read only when it changed.
* PostgreSQL: clients send a NOTIFY, debounced; a worker waits on the socket. Where LISTEN can't work (PgBouncer in
  transaction mode) the look every `interval` is enough by itself.
* MySQL, MariaDB: nothing to listen to; the look every `interval` is all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Engine

from relevo.drivers.contract import Bell

CHANNEL = "relevo"

# Seconds between two looks. SQLite: half of it is the median wait of a job. PostgreSQL: only a net under NOTIFY.
SQLITE_INTERVAL, POSTGRESQL_INTERVAL, MYSQL_INTERVAL = 0.06, 1.0, 0.1


class SqliteBell(Bell):
    """Hears every commit of another connection, and the instant at which the next job comes due."""

    interval = SQLITE_INTERVAL

    def __init__(self, engine: Engine, is_due: Callable[[], bool]) -> None:
        self._connection: Any = engine.raw_connection()
        self._is_due = is_due
        self._version: int | None = None

    def hear(self) -> bool:
        before, self._version = self._version, self._connection.execute("PRAGMA data_version").fetchone()[0]
        return before != self._version or self._is_due()

    def close(self) -> None:
        self._connection.close()


class PollingBell(Bell):
    """Hears nothing and therefore says yes at every interval."""

    interval = MYSQL_INTERVAL

    def hear(self) -> bool:
        return True


class PostgresqlBell(Bell):
    """Hears NOTIFY on a connection of its own; says yes at every interval while it has none."""

    interval = POSTGRESQL_INTERVAL

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: psycopg.Connection[Any] | None = None
        self._connect()

    def _connect(self) -> None:
        with contextlib.suppress(psycopg.Error):
            arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
            self._connection = psycopg.connect(*arguments, **options, autocommit=True, connect_timeout=5)
            self._connection.execute(f"LISTEN {CHANNEL}")  # type: ignore[arg-type]  # a constant

    def fileno(self) -> int | None:
        return None if self._connection is None or self._connection.closed else self._connection.fileno()

    def hear(self) -> bool:
        if self.fileno() is None:
            self._connect()
            return True
        try:
            for _ in self._connection.notifies(timeout=0):
                pass
        except psycopg.Error:
            self.close()
        return True  # whoever calls was woken by the socket or has waited an interval: either is reason to look

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
