"""Steps on the driver's database, with its errors in our words.

What a caller sees is one of two things: the step happened, or
`DriverUnavailableError`/`DriverError` was raised and it did not (or nobody can know: the connection
ended while the answer was on its way).

    write   a transaction of several statements; begun again when another transaction was in its way
    alone   one statement, which is its own transaction: it saves the round trips of BEGIN and COMMIT
    read    statements without a transaction: each sees what is committed, and none waits for a writer

How a connection to a server is made and looked after is in `relevo.database.server_options`.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from relevo.database import engine as engines
from relevo.database import errors
from relevo.database.schema import ensure_schema
from relevo.database.server_options import AUTOCOMMIT
from relevo.errors import DriverError, DriverUnavailableError

Result = TypeVar("Result")

# How often a step is begun again that others were in the way of, and the longest pause before it,
# in seconds.
TRIES, LONGEST_PAUSE_SECONDS = 20, 0.1


class Connections:
    """The engine of one driver. It may cross a fork: see `relevo.database.engine`."""

    def __init__(self, url: str) -> None:
        self.url = engines.resolve(url)
        self.engine: Engine = engines.make_engine(url)
        self._autocommit = self.engine.execution_options(**{AUTOCOMMIT: True})
        self._turn = engines.sqlite_lock if self.dialect == "sqlite" else contextlib.nullcontext()
        self._ready = (
            self.dialect != "sqlite"
        )  # a file gets its tables at first use, a server by a migration

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Do `work` in one transaction."""
        return self._step(lambda: self._transaction(work), safe=True)

    def autocommit(self, work: Callable[[Connection], Result]) -> Result:
        """Do `work`, one statement that writes. A lost connection is an error: it may have
        happened, or may not.
        """
        return self._step(lambda: self._untransacted(work), safe=False)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Do `work`, which writes nothing."""
        return self._step(lambda: self._untransacted(work), safe=True)

    def administer(self, work: Callable[[Engine], None]) -> None:
        """Do `work` on the tables themselves."""
        self._step(lambda: work(self.engine), safe=False)

    def close(self) -> None:
        with self._turn:
            self.engine.dispose()

    def _untransacted(self, work: Callable[[Connection], Result]) -> Result:
        with self._autocommit.connect() as connection:
            return work(connection)

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
                if not errors.is_disconnect(error):
                    raise
                raise DriverUnavailableError(
                    f"{self._name}: the commit was not confirmed: {error.orig}"
                ) from error
            return result

    def _step(self, step: Callable[[], Result], safe: bool) -> Result:
        tried = 0
        while True:
            try:
                with self._turn:
                    self._prepare()
                    return step()
            except DriverError:
                raise
            except (SQLAlchemyError, OSError) as error:
                tried += 1
                again = errors.is_transient(error) or (
                    safe and tried == 1 and errors.is_disconnect(error)
                )
                if tried == TRIES or not again:
                    raise errors.translate(self._name, error) from error
            # to part those who collided
            time.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS) * tried / TRIES)  # noqa: S311

    def _prepare(self) -> None:
        if not self._ready:
            ensure_schema(self.engine)
            self._ready = True

    @property
    def _name(self) -> str:
        return self.url.render_as_string(hide_password=True)
