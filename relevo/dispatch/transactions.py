"""Jobs that exist if and only if a transaction of a SQLAlchemy session commits.

    task.dispatch(7, session=session)
        The broker is the session's database: a row of its jobs table.
        Another broker: a row of the outbox in that database, forwarded after the commit.
    task.after_commit(session)
        Any database: dispatched after the commit. A crash between the two loses the job.
        Refused in a session that has joined a transaction of its Connection.

The work to do after the commit stands in `session.info`. The session's events are listened to on
that session alone, from its first `after_commit` on (0.1 ms): other sessions of the process never
enter this module.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, NestedTransaction, event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from relevo.database import after_commit as on_commit
from relevo.database import schema
from relevo.dispatch.capture import capture
from relevo.dispatch.delivery import Delivery, delivery_of, outbox_entry, same_database
from relevo.errors import OptionError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# The key in `session.info` of the pairs (transaction, function to call after its commit).
AFTER_COMMIT = "relevo_after_commit"


def dispatch_in_session(app: Any, session: Any, send: Callable[[], Any]) -> Any:
    """Call `send`, and make the jobs that it dispatches part of the session's transaction.

    Returns what `send` returns. Raises OptionError if the session is of another database.
    """
    session = session_of(session)
    delivery = delivery_of(app)
    if app.conf.task_always_eager:
        return after_commit(session, send)
    store_connection(delivery, session)
    with capture() as captured:
        result = send()
        jobs, connections = captured.pop_jobs(), captured.connections
    if jobs:
        own = app.settings.queue_connection
        entries = [outbox_entry(job, connections.get(job.id, own)) for job in jobs]
        with handing_in(delivery, session, [entry.connection for entry in entries]):
            delivery.hand_in(session.connection(), entries)
    return result


@contextmanager
def handing_in(delivery: Delivery, session: Any, names: Sequence[str]) -> Iterator[None]:
    """Within the block, jobs for these connections are handed in, in the session's transaction.

    When that has committed they are told of and their workers are woken; never if it, or its
    savepoint, rolls back.
    """
    connection, joined = session.connection(), is_joined(session)
    try:
        yield
    finally:
        asked = on_commit.take(connection)

        def do() -> None:
            for each in asked:
                each()
            # A transaction that the session has joined isn't over, and may hold SQLite's lock: what
            # is in the outbox is left to a worker's relay.
            if not joined:
                delivery.after_commit(*names)

        _after_commit(session_of(session), do)


def store_connection(delivery: Delivery, session: Any) -> Any:
    """The session's connection. Raises OptionError unless it leads to the store's database."""
    connection = connection_of(session)
    if not same_database(connection.engine.url, delivery.store.url):
        raise OptionError(
            "expected a session of the database of DATABASE_URL, where the outbox is, got one of"
            f" {connection.engine.url.render_as_string()}; after_commit(session) takes any"
        )
    schema.ensure_schema_in(connection)
    return connection


def connection_of(session: Any) -> Any:
    """The session's connection, in a transaction. Raises OptionError if it is no Session."""
    return session_of(session).connection()


def session_of(given: Any) -> Session:
    """The Session that was given, or this thread's one of a `scoped_session`.

    Raises OptionError for anything else.
    """
    session = given() if isinstance(given, scoped_session) else given
    if isinstance(session, Session):
        return session
    remedy = _REMEDIES.get(type(given).__name__, "") if is_of_sqlalchemy(given) else ""
    raise OptionError(
        "expected session to be a Session of SQLAlchemy, or a scoped_session, got"
        f" {given!r}{remedy}"
    )


def is_of_sqlalchemy(value: Any) -> bool:
    """Whether a value can only be meant as a session, because no job can have it as an argument."""
    return isinstance(value, (Session, scoped_session)) or type(value).__module__.startswith(
        "sqlalchemy."
    )


_OPEN_ONE = "; open one: with Session(engine) as session"
_REMEDIES = {
    "AsyncSession": "; await session.run_sync(function) calls a function with one",
    "async_scoped_session": "; await session.run_sync(function) calls a function with one",
    "sessionmaker": "; call it: with maker() as session",
    "Engine": _OPEN_ONE,
    "Connection": "; Session(connection) makes one",
}


def after_commit(session: Any, do: Callable[[], Any]) -> None:
    """Call `do` after the session has committed; never, if it rolls back.

    An error of `do` is logged, since nothing can be undone by then. Raises OptionError for a
    session that has joined a transaction of others: its commit commits nothing.
    """
    session = session_of(session)
    if is_joined(session):
        raise OptionError(
            "expected a session whose commit ends its transaction, got one that has joined a"
            " transaction of its Connection; dispatch(session=...) makes the job part of that one"
        )
    _after_commit(session, do)


def is_joined(session: Session) -> bool:
    """Whether a session takes part in a transaction that was begun on its Connection before."""
    if not isinstance(session.bind, Connection):
        return False
    session.connection()  # the session takes part from here on
    begun = session.get_transaction()
    # There is no public way to ask: (connection, transaction, whether the commit commits it, ...).
    _, transaction, commits, _ = begun._connections[session.bind]  # type: ignore[union-attr]  # noqa: SLF001
    return not commits or isinstance(transaction, NestedTransaction)


def _after_commit(session: Session, do: Callable[[], Any]) -> None:
    if not session.in_transaction():
        session.begin()
    begun = session.get_nested_transaction() or session.get_transaction()
    _listen(session)
    session.info.setdefault(AFTER_COMMIT, []).append((begun, do))


def run_or_defer(session: Any, row: Result, run: Callable[[], Result]) -> Result:
    """Run a batch or chain of an eager app: now, or after the session's commit.

    Returns its row: as `run` leaves it, or `row` while the commit is still to come.
    """
    if session is None:
        return run()
    after_commit(session, run)
    return row


def _listen(session: Session) -> None:
    for name, listener in _LISTENERS.items():
        if not event.contains(session, name, listener):
            event.listen(session, name, listener)


def _on_commit(session: Session) -> None:
    # In a savepoint nothing is committed yet.
    if AFTER_COMMIT not in session.info or session.in_nested_transaction():
        return
    # A function that asks for another one is answered too: its transaction is over as well.
    while waiting := session.info.pop(AFTER_COMMIT, None):
        for _, do in waiting:
            try:
                do()
            except Exception:
                logger.exception("what was to be done after the commit could not be done")


def _on_rollback(session: Session, undone: SessionTransaction) -> None:
    """Forget what was asked for in the transaction that is undone, or in a savepoint of it."""
    if AFTER_COMMIT in session.info:
        session.info[AFTER_COMMIT] = [
            (begun, do) for begun, do in session.info[AFTER_COMMIT] if not _is_in(begun, undone)
        ]


def _on_end(session: Session, ended: SessionTransaction) -> None:
    """Closing a session undoes its transaction without an event of a rollback."""
    if ended.parent is None:
        _on_rollback(session, ended)


_LISTENERS: dict[str, Callable[..., None]] = {
    "after_commit": _on_commit,
    "after_soft_rollback": _on_rollback,
    "after_transaction_end": _on_end,
}


def _is_in(begun: SessionTransaction | None, outer: SessionTransaction) -> bool:
    """Whether a transaction is `outer`, or a savepoint in it at any depth."""
    while begun is not None and begun is not outer:
        begun = begun.parent
    return begun is not None
