"""Jobs that exist if and only if a transaction commits: rows of its own, through the session that
is in it.

task.dispatch(7, session=session)     the broker is the session's database: a row of its table; another broker: a
row of the outbox, which must then lie in the session's database
task.after_commit(session)            any session: dispatched when it has committed (a crash in between loses it)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from relevo.database import schema
from relevo.dispatch.capture import capture
from relevo.dispatch.delivery import Delivery, delivery_of, outbox_entry, same_database
from relevo.errors import OptionError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Where a session keeps what is to be done when it has committed.
AFTER_COMMIT = "relevo_after_commit"


def dispatch_in_session(app: Any, session: Any, send: Callable[[], Any]) -> Any:
    """Do what dispatches one job or more, in the session's transaction. Returns what it returns.
    Raises OptionError.
    """
    delivery = delivery_of(app)
    if app.conf.task_always_eager:
        return after_commit(session, send)
    store_connection(delivery, session)
    with capture() as captured:
        result = send()
        jobs, connections = captured.pop_jobs(), captured.connections
    if jobs:
        sendings = [
            outbox_entry(job, connections.get(job.id, app.settings.queue_connection))
            for job in jobs
        ]
        delivery.hand_in(session.connection(), sendings)
        after_commit(
            session, lambda: delivery.after_commit(*(each.connection for each in sendings))
        )
    return result


def store_connection(delivery: Delivery, session: Any) -> Any:
    """The session's connection, if it is to the database of the store. Raises OptionError."""
    connection = connection_of(session)
    if not same_database(connection.engine.url, delivery.store.url):
        raise OptionError(
            "expected a session of the database of DATABASE_URL, where the outbox is, got one of"
            f" {connection.engine.url.render_as_string()}; after_commit(session) takes any"
        )
    schema.ensure_schema_in(connection)
    return connection


def connection_of(session: Any) -> Any:
    """What a session writes with, its transaction begun. Raises OptionError for what is none."""
    if not isinstance(session, Session):
        raise OptionError(f"expected session to be a Session of SQLAlchemy, got {session!r}")
    return session.connection()


def after_commit(session: Any, do: Callable[[], Any]) -> None:
    """Do something when the session has committed, and never if it is rolled back. What it raises
    is logged.
    """
    if not isinstance(session, Session):
        raise OptionError(f"expected session to be a Session of SQLAlchemy, got {session!r}")
    if not session.in_transaction():
        session.begin()
    mine = session.get_nested_transaction() or session.get_transaction()
    session.info.setdefault(AFTER_COMMIT, []).append((mine, do))


def run_or_defer(session: Any, row: Result, run: Callable[[], Result]) -> Result:
    """What runs in place: at once, or when the session has committed; `row` is what there is to say
    until then.
    """
    if session is None:
        return run()
    after_commit(session, run)
    return row


def _committed(session: Session) -> None:
    if (
        AFTER_COMMIT not in session.info or session.in_nested_transaction()
    ):  # a savepoint: nothing is committed yet
        return
    while waiting := session.info.pop(
        AFTER_COMMIT, None
    ):  # what is asked for meanwhile has been committed, too
        for _, do in waiting:
            try:
                do()
            except Exception:
                logger.exception("what was to be done after the commit could not be done")


def _undone(session: Session, undone: SessionTransaction) -> None:
    if AFTER_COMMIT in session.info:
        session.info[AFTER_COMMIT] = [
            (begun, do) for begun, do in session.info[AFTER_COMMIT] if not _is_in(begun, undone)
        ]


def _ended(session: Session, ended: SessionTransaction) -> None:
    """A session that is closed undoes its transaction, and tells of no rollback."""
    if ended.parent is None:
        _undone(session, ended)


def _is_in(begun: SessionTransaction | None, outer: SessionTransaction) -> bool:
    """Whether a transaction is this one or lies in it, however deep."""
    while begun is not None and begun is not outer:
        begun = begun.parent
    return begun is not None


event.listen(Session, "after_commit", _committed)
event.listen(Session, "after_soft_rollback", _undone)
event.listen(Session, "after_transaction_end", _ended)
