"""Connections to a database server: how they are made, begun with, and found dead before they are
used.

* Between transactions they are in autocommit, so that a step of one statement is one round trip; `BEGIN` is said where
  there are more.
* One that died while it lay idle in the pool is seen without a round trip: its socket has something to read, where a
  living one is silent between two statements. (A ping before each step would double the cost of the
  shortest ones.)
* A half-open one must not hold a worker for the kernel's fifteen minutes, so every wait has an end.
"""

from __future__ import annotations

import select
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

# Who executes with this option gets no BEGIN: each statement is a transaction of its own.
AUTOCOMMIT = "relevo_alone"

_POSTGRESQL = {
    "autocommit": True,
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_MYSQL = {
    "autocommit": True,
    "connect_timeout": 5,
    "read_timeout": 30,
    "write_timeout": 30,
    "charset": "utf8mb4",
    # No gap locks between workers that claim side by side.
    "init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
}

# What connections that ask for no certificate of their own are encrypted with, once there was one.
_tls: list[Any] = []

# Where a statement of MySQL's answers says whether a transaction is open.
_IN_TRANSACTION = 1


def options(backend: str) -> dict[str, Any]:
    """What `create_engine` is told for a database of this kind."""
    if backend == "sqlite":
        return {}
    if backend == "postgresql":
        return {"connect_args": dict(_POSTGRESQL), "pool_pre_ping": False}
    return {"connect_args": dict(_MYSQL), "pool_pre_ping": False, "isolation_level": None}


def prepare(engine: Engine) -> None:
    """Set up an engine made with `options`."""
    if engine.dialect.name == "sqlite":
        return
    if engine.dialect.name != "postgresql":
        event.listen(engine, "do_connect", _connect_to_mysql)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "checkout", _refuse_dead)


def _begin(connection: Connection) -> None:
    if not connection.get_execution_options().get(AUTOCOMMIT):
        connection.exec_driver_sql("BEGIN")


def _refuse_dead(connection: Any, record: Any, _proxy: Any) -> None:
    if not record.info.get("relevo_used"):  # new: it can't have gone stale
        record.info["relevo_used"] = True
    elif _is_readable(connection):
        raise DisconnectionError("the server has closed this connection")


def _is_readable(connection: Any) -> bool:
    try:
        # PyMySQL has no name for it
        socket = connection if hasattr(connection, "fileno") else connection._sock  # noqa: SLF001
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except Exception:  # noqa: BLE001  whatever a closed connection raises here, it is closed
        return True


def _connect_to_mysql(_dialect: Any, _record: Any, arguments: Any, named: dict[str, Any]) -> Any:
    # installed where it is used
    from pymysql.connections import Connection as PyMySQL  # noqa: PLC0415

    class Quiet(PyMySQL):  # type: ignore[misc,unused-ignore]
        """Rolls back only inside a transaction: SQLAlchemy ends each reading with a rollback, which
        is a round trip.

        And reads the machine's certificates once in a process: for each connection anew it takes 50
        ms of CPU.
        """

        def rollback(self) -> None:
            if self.server_status & _IN_TRANSACTION:
                super().rollback()

        def _create_ssl_ctx(self, asked: Any) -> Any:
            if asked:
                return super()._create_ssl_ctx(asked)
            if not _tls:
                _tls.append(super()._create_ssl_ctx(asked))
            return _tls[0]

    return Quiet(*arguments, **named)
