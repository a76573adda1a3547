"""Classifies a database's errors: try again, unavailable, tables missing, or refused.

No caller ever gets an error of SQLAlchemy or of a database's driver; `translate` makes one of ours.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from relevo.errors import DriverError, DriverUnavailableError, SchemaError

# PostgreSQL: serialization failure, deadlock. MySQL: row changed since it was read (MariaDB), lock
# timeout, deadlock.
_TRANSIENT_STATES, _TRANSIENT_NUMBERS = {"40001", "40P01"}, {1020, 1205, 1213}
_LOCK_TIMEOUT_STATE, _LOCK_TIMEOUT_NUMBER = "55P03", 1205
# SQLite's answers: the first while another process recovers or closes the file, the second when
# many open it at once.
_TRANSIENT_WORDS = ("database is locked", "locking protocol")
_MISSING = (
    "no such table",
    "no such column",
    "has no column",
    "does not exist",
    "doesn't exist",
    "Unknown column",
)


def is_transient(error: Exception) -> bool:
    """Whether another transaction was in the way, so that the same step may be begun again.

    The failed transaction was undone as a whole.
    """
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    return (
        getattr(cause, "sqlstate", None) in _TRANSIENT_STATES
        or (
            bool(getattr(cause, "args", ()))
            and cause is not None
            and cause.args[0] in _TRANSIENT_NUMBERS
        )
        or any(words in str(cause) for words in _TRANSIENT_WORDS)
    )


def is_lock_timeout(error: Exception) -> bool:
    """Whether another transaction held a lock for longer than this one was to wait."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    number = cause.args[0] if cause is not None and cause.args else None
    return getattr(cause, "sqlstate", None) == _LOCK_TIMEOUT_STATE or number == _LOCK_TIMEOUT_NUMBER


def is_disconnect(error: Exception) -> bool:
    """Whether the connection ended during the statement."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def translate(where: str, error: Exception) -> DriverError:
    """Return the error of Relevo for an error of the database `where`."""
    cause = str(getattr(error, "orig", None) or error).strip()
    if isinstance(error, (OperationalError, ProgrammingError)) and any(
        sign in cause for sign in _MISSING
    ):
        return SchemaError(f"{where}: {cause}; run `celery -A tasks schema upgrade`")
    if isinstance(error, (OperationalError, PoolTimeoutError, OSError)) or is_disconnect(error):
        return DriverUnavailableError(f"{where}: {cause}")
    return DriverError(f"{where}: {cause}")
