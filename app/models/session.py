"""`with session() as db:` is one transaction. It commits at the end of the block, and rolls back
when the block raises.

Within `join_unit(unit)` all such blocks share one transaction, which the unit commits at the end;
each block is a savepoint of it. So the steps of a request are committed together or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from app import settings
from app.models import schema
from relevo.database.engine import engine_for
from relevo.database.server_options import AUTOCOMMIT

_unit: ContextVar[UnitOfWork | None] = ContextVar("unit", default=None)


@contextlib.contextmanager
def session(url: str | None = None) -> Iterator[Session]:
    """A session on the database of DATABASE_URL, or of `url`. Raises SchemaError if the tables are
    missing.

    On SQLite the transaction holds the one write lock from its start: don't send mail or compute
    inside it, and dispatch with `session=db` or after it.
    """
    unit = _unit.get()
    with separate_session(url) if unit is None or url else unit.block() as db:
        yield db


@contextlib.contextmanager
def separate_session(url: str | None = None) -> Iterator[Session]:
    """A session with a transaction of its own, also within `join_unit`. On SQLite this waits in
    vain if the caller is in a transaction already.
    """
    with _new(url) as db, db.begin():
        yield db


@contextlib.contextmanager
def read_connection() -> Iterator[Connection]:
    """A connection for one reading statement. It takes no lock on SQLite, and one round trip on a
    server.
    """
    with _engine(None).execution_options(**{AUTOCOMMIT: True}).connect() as connection:
        yield connection


@contextlib.contextmanager
def undo_on_rollback(undo: Callable[[], None]) -> Iterator[None]:
    """Call `undo` when the block raises, or when the transaction around it is rolled back."""
    unit = _unit.get()
    try:
        yield
    except BaseException:
        if unit is None:
            undo()
        raise
    finally:
        if unit is not None:
            unit.undos.append(undo)


class UnitOfWork:
    """One transaction for several blocks. The first block opens it, and `begin` is called then."""

    def __init__(self, begin: Callable[[Session], None]) -> None:
        self.undos: list[Callable[[], None]] = []
        self._begin = begin
        self._db: Session | None = None

    @contextlib.contextmanager
    def block(self) -> Iterator[Session]:
        if self._db is None:
            self._db = _new()
            self._begin(self._db)
        with self._db.begin_nested():
            yield self._db

    def commit(self) -> None:
        if self._db is not None:
            self._db.commit()
            self._db.close()
        self.undos = []

    def undo(self) -> None:
        """Roll back what was not committed, and call the undos. After the commit, or a second time,
        it does nothing.
        """
        if self._db is not None:
            self._db.close()
        undos, self.undos = self.undos, []
        for undo in undos:
            undo()


@contextlib.contextmanager
def join_unit(unit: UnitOfWork) -> Iterator[None]:
    """Within the block, every `session()` of this thread, or of a thread that it starts, is part of
    the unit.
    """
    token = _unit.set(unit)
    try:
        yield
    finally:
        _unit.reset(token)


def _new(url: str | None = None) -> Session:
    return Session(_engine(url), expire_on_commit=False)


def _engine(url: str | None) -> Engine:
    engine = engine_for(url or settings.engine().database_url)
    schema.require(engine)
    return engine
