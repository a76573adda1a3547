"""Transactions on the driver's database, with its errors in our words.

What a caller sees is one of two things: the step happened, or `DriverUnavailableError`/`DriverError` was raised and it
did not. A connection that died while it lay idle in the pool is found at the first statement; as nothing was committed
then, the step is begun again once on a fresh one. (A ping before each step would cost a round trip per step.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from relevo.engine import make_engine, resolve
from relevo.errors import DriverError, DriverUnavailableError, SchemaError

Result = TypeVar("Result")


class Connections:
    """The engine of one driver. A forked child's copy makes its own connections."""

    def __init__(self, url: str) -> None:
        self.url = resolve(url)
        self.engine: Engine = make_engine(url, **_options(self.url.get_backend_name()))
        self._reads = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Do `work` in one transaction."""
        return self._again_if_stale(lambda: self._transaction(work))

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Do `work` without a transaction: each statement sees what is committed, and none waits for a writer."""

        def once() -> Result:
            with self._reads.connect() as connection:
                return work(connection)

        return self._again_if_stale(once)

    def close(self) -> None:
        self.engine.dispose()

    def _transaction(self, work: Callable[[Connection], Result]) -> Result:
        with self.engine.connect() as connection:
            transaction = connection.begin()
            try:
                result = work(connection)
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                # Whether it happened can't be known any more, so it must not be begun again.
                raise DriverUnavailableError(f"{self._name}: the commit was not confirmed: {error.orig}") from error
            return result

    def _again_if_stale(self, step: Callable[[], Result]) -> Result:
        try:
            return step()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise self._translated(error) from error
        except (SQLAlchemyError, OSError) as error:
            raise self._translated(error) from error
        try:
            return step()
        except (SQLAlchemyError, OSError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> DriverError:
        cause = str(getattr(error, "orig", None) or error)
        if isinstance(error, (OperationalError, ProgrammingError)) and _is_missing_table(cause):
            return SchemaError(f"{self._name}: {cause}; run `celery -A tasks schema upgrade`")
        if isinstance(error, (OperationalError, PoolTimeoutError, OSError)):
            return DriverUnavailableError(f"{self._name}: {cause}")
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return DriverUnavailableError(f"{self._name}: {cause}")
        return DriverError(f"{self._name}: {cause}")

    @property
    def _name(self) -> str:
        return self.url.render_as_string(hide_password=True)


def _options(backend: str) -> dict[str, object]:
    if backend == "sqlite":
        return {}
    timeouts: dict[str, object] = {"connect_timeout": 5}
    if backend == "postgresql":
        # A half-open connection must not hold a worker for the kernel's fifteen minutes.
        timeouts |= {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
    else:
        timeouts |= {"read_timeout": 30, "write_timeout": 30, "charset": "utf8mb4"}
    return {"connect_args": timeouts, "pool_pre_ping": False}


def _is_missing_table(cause: str) -> bool:
    return any(sign in cause for sign in ("no such table", "no such column", "does not exist", "doesn't exist"))
