"""One SQLAlchemy engine per process and url, with what each database needs to be shared by many
processes.

SQLite runs in WAL, waits for its lock instead of failing, and opens every transaction with BEGIN
IMMEDIATE, because a transaction that reads first and writes later is refused at once ("database is
locked"), whatever the busy timeout.

Connections never cross a fork. A child that inherits a server's socket would answer for its parent.
With SQLite it is worse: a child believes it holds the file locks of its parent, which the kernel
did not give it, and the WAL it writes to is deleted under it when the parent closes. So idle SQLite
connections are closed before a fork, and a child drops what it inherited from servers without a
word to them.
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

# How long a writer waits for SQLite's one write lock before an error reaches its caller, in
# seconds.
SQLITE_BUSY_TIMEOUT_SECONDS = 60
# SQLite looks again after 1, 2, 5, 10, … 100 ms. With many writers who waits long would wait ever
# longer: after so many milliseconds it begins with 1 again.
LONG_BUSY_WAIT_MS = 20
# … and where somebody waits for the answer (`look_often`), each time after 1 and 2.
SHORT_BUSY_WAIT_MS = 3
BEGIN = "BEGIN IMMEDIATE"
# How long a fork waits for a step on SQLite that is under way in another thread, in seconds: longer
# than any step.
FORK_WAIT_SECONDS = SQLITE_BUSY_TIMEOUT_SECONDS + 10

#: Held during each step on a SQLite file that must not be interrupted by a fork of this process.
sqlite_lock = threading.RLock()

_busy_wait_ms = LONG_BUSY_WAIT_MS
_engines: dict[tuple[int, str], Engine] = {}
_all_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_holders: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: list[Any] = []
_fork = threading.local()


def engine_for(url: str) -> Engine:
    """The engine of this process for `url`, made at the first call."""
    key = (os.getpid(), url)
    if key not in _engines:
        _engines[key] = make_engine(url)
    return _engines[key]


def make_engine(url: str, **options: Any) -> Engine:
    """A new engine for `url`; a SQLite file and its folder are created when it first connects."""
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
    """`url` with the Python driver we ship filled in where it names only a database."""
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
    """Whether this is SQLite in a file: one in memory is lost with its connection, which must not
    be closed.
    """
    name = engine.url.database or ":memory:"
    return engine.dialect.name == "sqlite" and name != ":memory:" and not name.startswith("file:")


def share_sqlite(engine: Engine) -> None:
    """Make a SQLite engine safe beside other processes; an engine of another database is left as it
    is.
    """
    if engine.dialect.name != "sqlite":
        return
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    _all_engines.add(engine)


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    # SQLite keeps any bytes as text. One payload that is not UTF-8 must not make every reservation
    # fail.
    connection.text_factory = _decode
    connection.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_SECONDS * 1000}")
    _switch_to_wal(connection)
    connection.execute(
        "PRAGMA synchronous = FULL"
    )  # what is committed is on the disk, also after a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _decode(text: bytes) -> str:
    return text.decode(errors="replace")


def _switch_to_wal(connection: Any) -> None:
    # SQLite refuses the switch at once, whatever the busy timeout, while another process opens the
    # same new file.
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
    """People wait for the answers of this process: before workers, it gets the lock of a SQLite
    file.
    """
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
        connection.exec_driver_sql(BEGIN)  # fails again, as SQLAlchemy tells of it
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
    """Call `holder.close()` before this process forks: it holds a SQLite connection outside of an
    engine's pool.
    """
    _holders.add(holder)


def _before_fork() -> None:
    _fork.waited = sqlite_lock.acquire(timeout=FORK_WAIT_SECONDS)
    with contextlib.suppress(
        Exception
    ):  # whatever ails a connection that is being closed, the fork goes on
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
            _inherited.append(
                engine.pool
            )  # kept for ever: what is collected might say goodbye on its parent's socket
            engine.dispose(close=False)
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
