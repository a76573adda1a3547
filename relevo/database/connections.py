"""Runs steps on the database and translates its errors: what the driver, the store and limits use.

A caller sees one of two outcomes. Either the step happened, or `DriverUnavailableError` or
`DriverError` was raised and it did not happen. (If the connection is lost during a commit, nobody
can know which; that is an error, too.)

    write       a transaction of several statements; begun again after a conflict with another one
    autocommit  one statement, its own transaction: it saves the round trips of BEGIN and COMMIT
    read        statements without a transaction: each sees what is committed and waits for no lock

`relevo.database.server_options` says how a connection to a server is made and checked.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from relevo.database import after_commit, errors
from relevo.database import engine as engines
from relevo.database.schema import ensure_schema
from relevo.database.server_options import AUTOCOMMIT
from relevo.errors import DriverError, DriverUnavailableError

Result = TypeVar("Result")

# How often a step is tried when other transactions conflict with it.
TRIES = 20
# The longest pause before the next try.
LONGEST_PAUSE_SECONDS = 0.1


class Connections:
    """The engine of one database. It may cross a fork: see `relevo.database.engine`."""

    def __init__(self, url: str) -> None:
        self.url = engines.resolve(url)
        self.engine: Engine = engines.make_engine(url)
        self._autocommit = self.engine.execution_options(**{AUTOCOMMIT: True})
        self._lock = engines.sqlite_lock if self.dialect == "sqlite" else contextlib.nullcontext()
        # A SQLite file gets its tables at first use, a server by a migration.
        self._ready = self.dialect != "sqlite"

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in one transaction, and return its result."""
        committed: list[after_commit.Do] = []
        result = self._step(lambda: self._transaction(work, committed), safe=True)
        for do in committed:  # without the lock: it may dispatch a job
            do()
        return result

    def autocommit(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work`: one statement that writes.

        A lost connection is an error, because the statement may have happened or not.
        """
        return self._step(lambda: self._untransacted(work), safe=False)

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work`, which writes nothing."""
        return self._step(lambda: self._untransacted(work), safe=True)

    def administer(self, work: Callable[[Engine], None]) -> None:
        """Run `work`, which creates, changes or drops tables."""
        self._step(lambda: work(self.engine), safe=False)

    def close(self) -> None:
        with self._lock:
            self.engine.dispose()

    def _untransacted(self, work: Callable[[Connection], Result]) -> Result:
        with self._autocommit.connect() as connection:
            return work(connection)

    def _transaction(
        self, work: Callable[[Connection], Result], committed: list[after_commit.Do]
    ) -> Result:
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
            committed += after_commit.take(connection)
            return result

    def _step(self, step: Callable[[], Result], safe: bool) -> Result:
        tried = 0
        while True:
            try:
                with self._lock:
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
            # A random pause, so that those that collided don't collide again.
            time.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS) * tried / TRIES)  # noqa: S311

    def _prepare(self) -> None:
        if not self._ready:
            ensure_schema(self.engine)
            self._ready = True

    @property
    def _name(self) -> str:
        return self.url.render_as_string(hide_password=True)
