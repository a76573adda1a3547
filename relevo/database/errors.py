"""What a database's error means: begin the step again, the broker is away, the tables are missing,
or it is refused.

Nothing that SQLAlchemy or a database's own driver raises reaches a caller of ours.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from relevo.errors import DriverError, DriverUnavailableError, SchemaError

# PostgreSQL: serialization failure, deadlock. MySQL: row changed since it was read (MariaDB), lock
# timeout, deadlock.
_PASSING_STATES, _PASSING_NUMBERS = {"40001", "40P01"}, {1020, 1205, 1213}
_WAIT_OVER_STATE, _WAIT_OVER_NUMBER = "55P03", 1205
# SQLite says the first beside a process that recovers or closes the file, the second when many open
# it at once.
_PASSING_WORDS = ("database is locked", "locking protocol")
_MISSING = (
    "no such table",
    "no such column",
    "has no column",
    "does not exist",
    "doesn't exist",
    "Unknown column",
)


def is_transient(error: Exception) -> bool:
    """Another transaction was in the way and this one was undone as a whole: the same step may be
    begun again.
    """
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    return (
        getattr(cause, "sqlstate", None) in _PASSING_STATES
        or (
            bool(getattr(cause, "args", ()))
            and cause is not None
            and cause.args[0] in _PASSING_NUMBERS
        )
        or any(words in str(cause) for words in _PASSING_WORDS)
    )


def is_lock_timeout(error: Exception) -> bool:
    """Another transaction had what was waited for, and went on for longer than this one was to
    wait.
    """
    cause = error.orig if isinstance(error, DBAPIError) else None
    number = cause.args[0] if cause is not None and cause.args else None
    return getattr(cause, "sqlstate", None) == _WAIT_OVER_STATE or number == _WAIT_OVER_NUMBER


def is_disconnect(error: Exception) -> bool:
    """The connection ended under the statement."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def translate(where: str, error: Exception) -> DriverError:
    """The error that our caller gets."""
    cause = str(getattr(error, "orig", None) or error).strip()
    if isinstance(error, (OperationalError, ProgrammingError)) and any(
        sign in cause for sign in _MISSING
    ):
        return SchemaError(f"{where}: {cause}; run `celery -A tasks schema upgrade`")
    if isinstance(error, (OperationalError, PoolTimeoutError, OSError)) or is_disconnect(error):
        return DriverUnavailableError(f"{where}: {cause}")
    return DriverError(f"{where}: {cause}")
