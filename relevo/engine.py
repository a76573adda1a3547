"""One SQLAlchemy engine per process and url, with what each database needs to be shared by many processes.

A forked child gets engines of its own: connections never cross a fork. SQLite runs in WAL, waits for its lock instead
of failing, and opens every transaction with BEGIN IMMEDIATE, because a transaction that reads first and writes later is
refused at once ("database is locked"), whatever the busy timeout.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url

# How long a writer waits for SQLite's one write lock before an error reaches its caller, in seconds.
SQLITE_BUSY_TIMEOUT = 60

_engines: dict[tuple[int, str], Engine] = {}


def engine_for(url: str) -> Engine:
    """The engine of this process for `url`, made at the first call."""
    key = (os.getpid(), url)
    if key not in _engines:
        _engines[key] = make_engine(url)
    return _engines[key]


def make_engine(url: str, **options: Any) -> Engine:
    """A new engine for `url`; a SQLite file's folder is created."""
    parsed = resolve(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, **options)
    if parsed.get_backend_name() in {"mysql", "mariadb"}:
        options.setdefault("isolation_level", "READ COMMITTED")  # no gap locks between workers that claim side by side
    return create_engine(parsed, **{"pool_pre_ping": True, "pool_recycle": 3600, **options})


def resolve(url: str) -> URL:
    """`url` with the Python driver we ship filled in where it names only a database."""
    parsed = make_url(url)
    default = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg",
               "mysql": "mysql+pymysql", "mariadb": "mariadb+pymysql"}.get(parsed.drivername)
    return parsed.set(drivername=default) if default else parsed


def _sqlite_engine(url: URL, **options: Any) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT, "check_same_thread": False}, **options)
    share_sqlite(engine)
    return engine


def share_sqlite(engine: Engine) -> None:
    """Make a SQLite engine safe beside other processes; an engine of another database is left as it is."""
    if engine.dialect.name != "sqlite":
        return
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)


def _on_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    connection.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # what is committed is on the disk, also after a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _on_begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
