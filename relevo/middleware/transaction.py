"""Runs a job in a database transaction: committed when the job returns, rolled back otherwise.

    @app.task(name="orders.pay", middleware=[Transaction()])
    def pay(order_id):
        order = session().get(Order, order_id)

The commit comes before the ack, so a worker that dies between the two runs the job again after its
commit; `Transaction(once=True)` prevents the second effect. An error, `release`, `fail`, Celery's
`retry` and a kill roll back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from sqlalchemy.orm import Session

from relevo.database.engine import engine_for
from relevo.errors import OptionError
from relevo.job.middleware import CallNext, Middleware, RunningJob
from relevo.store import receipts

_current: ContextVar[Session | None] = ContextVar("relevo_session", default=None)


def session() -> Session:
    """The session of the running job's transaction. Raises OptionError if there is none."""
    current = _current.get()
    if current is None:
        raise OptionError(
            "expected to be in the transaction of a job; give its task middleware=[Transaction()]"
        )
    return current


def current() -> Session | None:
    """The session of the running job's transaction, or None."""
    return _current.get()


class Transaction(Middleware):
    """Run the job in a transaction of DATABASE_URL, or of a session that `sessions()` makes.

    `once`: store a receipt in the same transaction, so that the job takes effect once, however
    often it is delivered. The session's database must then have Relevo's tables.
    """

    name = "transaction"

    def __init__(
        self, sessions: Callable[[], Session] | None = None, *, once: bool = False
    ) -> None:
        if sessions is not None and not callable(sessions):
            raise OptionError(
                "expected sessions of Transaction to be a callable that makes one, got"
                f" {sessions!r}"
            )
        self.sessions, self.once = sessions, once

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:
        with self._open(job) as opened, opened.begin():
            token = _current.set(opened)
            try:
                if self.once and not receipts.insert_once(opened.connection(), f"ran:{job.id}"):
                    job.skip("it has been done")
                return call_next()
            finally:
                _current.reset(token)

    def _open(self, job: RunningJob) -> Session:
        if self.sessions is not None:
            return self.sessions()
        settings = getattr(job.app, "settings", None)
        if settings is None:
            raise OptionError(
                "an app that create_app has not made has no database; give Transaction its sessions"
            )
        return Session(engine_for(settings.database_url))
