"""`with session() as db:` — one transaction: committed at the end of the block, undone when the
block raises.

Within `join_unit(unit)` there is one transaction for all such blocks, which the unit commits in the
end: each block is a savepoint of it. So what a request writes in several steps is there as a whole,
or not at all.
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
    """A session on the database of DATABASE_URL, or of `url`; the tables are there (or a
    SchemaError says what to do).

    On SQLite the transaction holds the one write lock from the start: don't mail or compute inside
    it, and dispatch with it (`session=db`) or after it.
    """
    unit = _unit.get()
    with separate_session(url) if unit is None or url else unit.block() as db:
        yield db


@contextlib.contextmanager
def separate_session(url: str | None = None) -> Iterator[Session]:
    """The same, and never a part of another transaction. On SQLite nobody may be in one that is
    under way.
    """
    with _new(url) as db, db.begin():
        yield db


@contextlib.contextmanager
def read_connection() -> Iterator[Connection]:
    """A connection for a statement that reads: on SQLite it takes no lock, on a server it is one
    round trip.
    """
    with _engine(None).execution_options(**{AUTOCOMMIT: True}).connect() as connection:
        yield connection


@contextlib.contextmanager
def undo_on_rollback(undo: Callable[[], None]) -> Iterator[None]:
    """`undo` is called when the block raises, or when the transaction it is a part of comes to
    nothing.
    """
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
    """One transaction for several blocks. Its first block begins it, and then `begin` is
    called.
    """

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
        """Undo what was not committed. Done twice, or after the commit, it does nothing."""
        if self._db is not None:
            self._db.close()
        undos, self.undos = self.undos, []
        for undo in undos:
            undo()


@contextlib.contextmanager
def join_unit(unit: UnitOfWork) -> Iterator[None]:
    """Whatever asks for a session within the block, in this thread or one that is started from it,
    is a part of it.
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
