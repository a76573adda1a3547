"""Makes SQLAlchemy engines that many processes can share: one per process and url.

SQLite runs in WAL and waits for its lock instead of failing. Every transaction opens with BEGIN
IMMEDIATE: otherwise one that reads first and writes later is refused at once ("database is
locked"), whatever the busy timeout.

Connections never cross a fork. A child that inherits a server's socket would answer for its parent.
With SQLite it is worse: the child believes that it holds its parent's file locks, which the kernel
did not give it, and its WAL is deleted when the parent closes. So idle SQLite connections are
closed before a fork, and a child drops inherited server connections without closing the session.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url

from relevo.database import server_options
from relevo.database.server_options import AUTOCOMMIT

# How long a writer waits for SQLite's one write lock before its caller gets an error.
SQLITE_BUSY_TIMEOUT_SECONDS = 60
# SQLite tries the lock again after 1, 2, 5, 10, … 100 ms, so among many writers those that have
# waited longest wait longest again. After so many milliseconds it begins with 1 ms again.
LONG_BUSY_WAIT_MS = 20
# The same where a person waits for the answer (`use_short_busy_wait`): it tries after 1 and 2 ms.
SHORT_BUSY_WAIT_MS = 3
BEGIN = "BEGIN IMMEDIATE"
# How long a fork waits for another thread's step on SQLite: longer than any step.
FORK_WAIT_SECONDS = SQLITE_BUSY_TIMEOUT_SECONDS + 10

#: Held during each step on a SQLite file, because a fork must not interrupt it.
sqlite_lock = threading.RLock()

_busy_wait_ms = LONG_BUSY_WAIT_MS
_engines: dict[tuple[int, str], Engine] = {}
_all_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_holders: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: list[Any] = []
_fork = threading.local()


def engine_for(url: str) -> Engine:
    """Return this process's engine for `url`, made at the first call."""
    key = (os.getpid(), url)
    if key not in _engines:
        _engines[key] = make_engine(url)
    return _engines[key]


def make_engine(url: str, **options: Any) -> Engine:
    """Make an engine for `url`. The first connection creates a SQLite file and its folder."""
    parsed = resolve(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, **options)
    engine = create_engine(
        parsed,
        **{"pool_recycle": 3600, **server_options.options(parsed.get_backend_name()), **options},
    )
    server_options.prepare(engine)
    _all_engines.add(engine)
    return engine


def resolve(url: str) -> URL:
    """Parse `url`, and fill in Relevo's Python driver where it names only a database."""
    parsed = make_url(url)
    default = {
        "postgresql": "postgresql+psycopg",
        "postgres": "postgresql+psycopg",
        "mysql": "mysql+pymysql",
        "mariadb": "mariadb+pymysql",
    }.get(parsed.drivername)
    return parsed.set(drivername=default) if default else parsed


# --- SQLite ---------------------------------------------------------------------------------------
def _sqlite_engine(url: URL, **options: Any) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        **options,
    )
    if is_file(engine):
        folder = Path(url.database or "").parent
        event.listen(engine, "do_connect", lambda *_: folder.mkdir(parents=True, exist_ok=True))
    share_sqlite(engine)
    return engine


def is_file(engine: Engine) -> bool:
    """Whether the engine is SQLite in a file.

    A database in memory is lost with its connection, so that connection must not be closed.
    """
    name = engine.url.database or ":memory:"
    return engine.dialect.name == "sqlite" and name != ":memory:" and not name.startswith("file:")


def share_sqlite(engine: Engine) -> None:
    """Make a SQLite engine safe beside other processes. Other engines are left as they are."""
    if engine.dialect.name != "sqlite":
        return
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    _all_engines.add(engine)


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # BEGIN is sent by `_on_begin`
    # SQLite stores any bytes as text. One payload that is not UTF-8 must not make every reservation
    # fail.
    connection.text_factory = _decode
    connection.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_SECONDS * 1000}")
    _switch_to_wal(connection)
    # A committed transaction is on the disk, also after a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _decode(text: bytes) -> str:
    return text.decode(errors="replace")


def _switch_to_wal(connection: Any) -> None:
    # While another process opens the same new file, SQLite refuses the switch at once, whatever the
    # busy timeout.
    deadline = time.monotonic() + SQLITE_BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def use_short_busy_wait() -> None:
    """Let this process get the lock of a SQLite file before workers do: a person waits for it."""
    global _busy_wait_ms  # noqa: PLW0603  one a process
    _busy_wait_ms = SHORT_BUSY_WAIT_MS


def _on_begin(connection: Any) -> None:
    if connection.get_execution_options().get(AUTOCOMMIT):
        return
    raw = connection.connection.driver_connection
    deadline = time.monotonic() + SQLITE_BUSY_TIMEOUT_SECONDS
    raw.execute(f"PRAGMA busy_timeout = {_busy_wait_ms}")
    try:
        while not _try_begin(raw, deadline):
            pass
    except sqlite3.Error:
        connection.exec_driver_sql(BEGIN)  # fails again, now as an error of SQLAlchemy
    finally:
        raw.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_SECONDS * 1000}")


def _try_begin(connection: Any, deadline: float) -> bool:
    try:
        connection.execute(BEGIN)
    except sqlite3.OperationalError as error:
        if "locked" in str(error) and time.monotonic() < deadline:
            return False
        raise
    return True


# --- forks ----------------------------------------------------------------------------------------
def close_before_fork(holder: Any) -> None:
    """Call `holder.close()` before this process forks.

    For an object that holds a SQLite connection outside of an engine's pool.
    """
    _holders.add(holder)


def _before_fork() -> None:
    _fork.waited = sqlite_lock.acquire(timeout=FORK_WAIT_SECONDS)
    # Closing may raise anything; the fork goes on.
    with contextlib.suppress(Exception):
        for holder in list(_holders):
            holder.close()
        for engine in list(_all_engines):
            if is_file(engine):
                engine.dispose()


def _after_fork() -> None:
    if _fork.waited:
        sqlite_lock.release()


def _after_fork_in_child() -> None:
    for engine in list(_all_engines):
        if not is_file(engine):
            # Kept for ever: a collected connection might end the session on its parent's socket.
            _inherited.append(engine.pool)
            engine.dispose(close=False)
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
