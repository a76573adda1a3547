"""A transaction on SQLite waits for the file's one write lock, but not for ever."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from relevo.database import engine as engines
from tests.support import no_fsync

FULL = 2


@pytest.fixture
def engine(tmp_path):
    engine = engines.make_engine(f"sqlite:///{tmp_path}/shared.db")
    engine.connect().close()
    yield engine
    engine.dispose()


@pytest.fixture
def holder(engine):
    """Another connection, which holds the lock."""
    holder = sqlite3.connect(engine.url.database, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    yield holder
    holder.close()


def busy_timeout(connection):
    return connection.connection.driver_connection.execute("PRAGMA busy_timeout").fetchone()[0]


def test_a_committed_transaction_is_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_on_connect", no_fsync.synced)  # as outside of tests
    with engines.make_engine(f"sqlite:///{tmp_path}/shared.db").connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == FULL


def test_a_transaction_waits_until_it_has_the_lock(engine, holder, monkeypatch):
    looks = []
    real = engines._try_begin

    def look(*args):
        looks.append(real(*args))
        if len(looks) == 2:
            holder.rollback()
        return looks[-1]

    monkeypatch.setattr(engines, "_try_begin", look)
    with engine.begin() as connection:
        assert looks == [False, False, True]
        assert busy_timeout(connection) == engines.SQLITE_BUSY_TIMEOUT_SECONDS * 1000


@pytest.mark.usefixtures("holder")
def test_after_the_busy_timeout_there_is_an_error_and_the_connection_waits_as_before(
    engine, monkeypatch
):
    monkeypatch.setattr(engines, "SQLITE_BUSY_TIMEOUT_SECONDS", 0)
    with engine.connect() as connection:
        with pytest.raises(OperationalError, match="database is locked"):
            connection.begin()
        assert busy_timeout(connection) == 0
