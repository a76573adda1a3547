"""How connections to a database server are made, begun, and checked before they are used.

* Between transactions they are in autocommit, so a step of one statement is one round trip. A step
  of several statements sends `BEGIN`.
* A connection that died in the pool is noticed without a round trip: its socket is readable, while
  that of a living one is silent between two statements. (A ping before each step would double the
  cost of the shortest steps.)
* A half-open connection must not hold a worker for the kernel's fifteen minutes, so every wait has
  a limit.
"""

from __future__ import annotations

import select
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError

# The execution option that sends no BEGIN: each statement is a transaction of its own.
AUTOCOMMIT = "relevo_autocommit"

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
    # No gap locks between workers that reserve side by side.
    "init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
}

# The TLS context of connections without a certificate of their own, made at the first of them.
_tls: list[Any] = []

# The bit of MySQL's server status that is set while a transaction is open.
_IN_TRANSACTION = 1


def options(backend: str) -> dict[str, Any]:
    """Return the arguments of `create_engine` for a database of this kind."""
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
    if not record.info.get("relevo_used"):  # a new connection can't be stale
        record.info["relevo_used"] = True
    elif _is_readable(connection):
        raise DisconnectionError("the server has closed this connection")


def _is_readable(connection: Any) -> bool:
    try:
        # PyMySQL has no public name for its socket.
        socket = connection if hasattr(connection, "fileno") else connection._sock  # noqa: SLF001
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    except Exception:  # noqa: BLE001  any error here means that the connection is closed
        return True


def _connect_to_mysql(_dialect: Any, _record: Any, arguments: Any, named: dict[str, Any]) -> Any:
    # PyMySQL is installed only where it is used.
    from pymysql.connections import Connection as PyMySQL  # noqa: PLC0415

    class LeanConnection(PyMySQL):  # type: ignore[misc,unused-ignore]
        """A connection that saves two costs.

        SQLAlchemy ends each read with a rollback, which is a round trip; here it is sent only
        inside a transaction. And the machine's certificates are read once a process, because each
        reading takes 50 ms of CPU.
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

    return LeanConnection(*arguments, **named)
