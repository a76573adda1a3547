"""How jobs get from a transaction of the store into their brokers.

    deliver(connection, sendings)   the broker is the store's database: rows of its table, in the same transaction
                                    another broker: rows of the outbox, which `forward` puts into it
                                    after the commit
    after_commit()                  this process forwards at once what it has just committed
    relay.py                        a thread of every worker's main process: forwards what others left, and what is new

So a job exists if and only if its transaction was committed, and it is put once (see
`store/outbox.py`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kombu.exceptions import OperationalError
from kombu.utils.functional import retry_over_time
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from relevo import clock, drivers
from relevo.database.engine import resolve
from relevo.drivers import message_codec
from relevo.drivers.database import jobs as database_jobs
from relevo.drivers.values import NewJob
from relevo.errors import (
    DriverError,
    DriverUnavailableError,
    OptionError,
    SettingsError,
    did_you_mean,
)
from relevo.job import membership
from relevo.store import batch_counts, batches, failed, outbox, schedules
from relevo.store.batches import MemberEnd
from relevo.store.failed import FailedJob
from relevo.store.outbox import Sending
from relevo.store.schedules import RunEnd
from relevo.store.store import Store, store_for
from relevo.transport import put_results

logger = logging.getLogger(__name__)

# What a running job does beside its own work is tried so often while the store is away, and so many
# seconds apart.
TRIES, PAUSE = 30, 2.0


class Delivery:
    """The way to the brokers of one app."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._drivers: dict[tuple[int, str], Any] = {}
        self._written_to: set[Any] = set()

    @property
    def store(self) -> Store:
        return store_for(self.app.settings.database_url)

    # --- in the transaction -----------------------------------------------------------------------
    def hand_in(self, connection: Connection, sendings: Sequence[Sending]) -> None:
        """Hand jobs in with a transaction of the store. What was handed in under the same name
        before is left out.
        """
        fresh = outbox.new_only(connection, sendings)
        for name in dict.fromkeys(each.connection for each in fresh):
            these = [each for each in fresh if each.connection == name]
            driver = self.local_driver(name, connection.engine.url)
            if driver is None:
                outbox.add(connection, [_marked(each) for each in these])
            else:
                jobs = [_new_job(each) for each in these]
                put_results.resolve(jobs, database_jobs.put(connection, jobs, driver.now()))
                self._written_to.add(driver)

    def write_with_retry(self, step: Callable[[Connection], Any]) -> None:
        """Do a step in a transaction of the store, again and again while the store is away: a
        minute at most.
        """
        retry_over_time(
            self.store.write,
            DriverUnavailableError,
            [step],
            max_retries=TRIES,
            interval_start=PAUSE,
            interval_step=0,
            interval_max=PAUSE,
        )

    def local_driver(self, name: str, database: URL | None = None) -> Any:
        """The driver of a connection whose broker is this database (the store's); None for another
        broker.
        """
        url = self.url_of(name)
        if url.partition(":")[0].partition("+")[0] not in drivers.DATABASES or not same_database(
            resolve(url), database or self.store.url
        ):
            return None
        return drivers.driver_for(url)

    def url_of(self, name: str) -> str:
        """The url of a connection's broker. Raises SettingsError for a name that no connection has."""
        settings = self.app.settings
        if name == settings.queue_connection:
            return str(self.app.conf.broker_url)
        if name not in settings.connections:
            raise SettingsError(
                f"no connection named {name!r}{did_you_mean(name, settings.connections)}"
            )
        return str(settings.connections[name].url)

    # --- after it ---------------------------------------------------------------------------------
    def notify(self) -> None:
        """Wake who waits for jobs in the database that were written to, now that it is committed."""
        while self._written_to:
            self._written_to.pop().notifier.notify()

    def after_commit(self, *names: str) -> None:
        """Jobs for these connections were committed: wake who waits for them, and forward what is
        in the outbox.
        """
        self.notify()
        for name in dict.fromkeys(names):
            if self.local_driver(name) is None:
                try:
                    self.forward(name)
                except DriverError as error:  # they are safe, and a worker's relay sends them
                    logger.warning("the outbox of %r waits for its broker: %s", name, error)

    def forward_all(self) -> int:
        """Put all that waits in the outbox. Returns how many jobs. Raises DriverError."""
        return sum(self.forward(name) for name in outbox.connections(self.store))

    def forward(self, name: str) -> int:
        """Put what waits for one connection, in its order. Returns how many jobs. Raises
        DriverError.
        """
        total, sent = 0, outbox.PAGE
        broker = self.broker_of(name)
        while sent == outbox.PAGE:
            try:
                sent = outbox.forward(self.store, name, lambda _, rows: self.put(broker, rows))
            except DriverUnavailableError:
                raise
            except (DriverError, OptionError):
                logger.exception("jobs of the outbox were refused together, each is tried alone")
                sent = outbox.forward(
                    self.store, name, functools.partial(self.put_or_fail, broker), 1
                )
                sent = outbox.PAGE if sent else 0
            total += sent
        return total

    def put(self, broker: Any, sendings: Sequence[Sending]) -> None:
        """Put jobs into a broker: a driver of ours all together, another one by one."""
        if isinstance(broker, str):
            with _connected(self.app, broker) as connection:
                for each in sendings:
                    # kombu's way
                    connection.default_channel._put(each.queue, message_codec.loads(each.payload))  # noqa: SLF001
        else:
            jobs = [_new_job(each) for each in sendings]
            put_results.resolve(jobs, broker.put(jobs))

    def put_jobs(self, name: str, jobs: Sequence[NewJob]) -> None:
        """Put jobs into the broker of a connection: what was never in the outbox needs no copies on
        its way.
        """
        broker = self.broker_of(name)
        if isinstance(broker, str):
            self.put(broker, [outbox_entry(job, name) for job in jobs])
        else:
            broker.put(jobs)

    def put_or_fail(self, broker: Any, connection: Connection, sendings: Sequence[Sending]) -> None:
        """Put jobs; those that the broker refuses have failed, in a transaction of the caller's."""
        try:
            self.put(broker, sendings)
        except DriverUnavailableError:
            raise
        except (DriverError, OptionError) as error:
            failed.record(connection, [_refused(each, error) for each in sendings])
            batches.prepare_ends([end for each in sendings for end in _ends(each)], self.hand_in)(
                connection
            )
            schedules.end_runs(
                connection, [end for each in sendings if (end := _run_end(each)) is not None]
            )

    def broker_of(self, name: str) -> Any:
        """The driver of a connection, or its url where the broker is none of ours. Raises
        DriverUnavailableError.
        """
        key = (os.getpid(), name)
        if key not in self._drivers:
            url = self.url_of(name)
            if drivers.is_ours(url):
                with _connected(self.app, url) as connection:
                    self._drivers[key] = connection.default_channel.driver
            else:
                self._drivers[key] = url
        return self._drivers[key]


def delivery_of(app: Any) -> Delivery:
    """The delivery of an app, made at the first call."""
    if not hasattr(app, "_relevo_delivery"):
        app._relevo_delivery = Delivery(app)  # noqa: SLF001  the app is where it belongs
    found: Delivery = app._relevo_delivery  # noqa: SLF001
    return found


@contextlib.contextmanager
def _connected(app: Any, url: str) -> Iterator[Any]:
    """A connection to a broker. One that is away is told in our words: kombu's error comes from the
    first use of it.
    """
    try:
        with app.connection_for_write(url) as connection:
            yield connection
    except OperationalError as error:
        raise DriverUnavailableError(str(error)) from error


@functools.lru_cache(maxsize=64)
def same_database(one: URL, other: URL) -> bool:
    """Whether two urls are of one database."""
    if one.get_backend_name() == other.get_backend_name() == "sqlite":
        return Path(one.database or "").resolve() == Path(other.database or "").resolve()
    return _place(one) == _place(other)


def _place(url: URL) -> tuple[Any, ...]:
    backend = "mysql" if url.get_backend_name() == "mariadb" else url.get_backend_name()
    return (
        backend,
        url.host,
        url.port,
        url.database,
        url.query.get("host"),
        url.query.get("unix_socket"),
    )


def outbox_entry(job: NewJob, connection: str, **changes: Any) -> Sending:
    """A job that was made, as it goes to the outbox."""
    return replace(
        Sending(
            connection=connection,
            queue=job.queue,
            uuid=job.id,
            payload=job.payload,
            priority=job.priority,
            available_at=job.available_at,
            unique_key=job.unique_key,
        ),
        **changes,
    )


def _new_job(each: Sending) -> NewJob:
    available_at = clock.now() + each.delay if each.delay else each.available_at
    # Read only where there may be something to read: a batch sends thousands of these.
    headers = (
        message_codec.headers_of(each.payload)
        if each.unique_key or '"fair"' in each.payload
        else {}
    )
    said = message_codec.unique_of(headers) if each.unique_key else {}
    conflict = (
        message_codec.conflict_of(said) if said and said.get("key") == each.unique_key else {}
    )
    return NewJob(
        queue=each.queue,
        payload=each.payload,
        id=each.uuid,
        priority=each.priority,
        available_at=available_at,
        unique_key=each.unique_key,
        fair_key=message_codec.fair_key_of(headers),
        **conflict,
    )


def _marked(each: Sending) -> Sending:
    """With the header that makes its end a receipt."""
    message = json.loads(each.payload)
    message["headers"] = {**(message.get("headers") or {}), membership.OUTBOX_HEADER: True}
    return replace(each, payload=message_codec.dumps(message))


def _ends(each: Sending) -> tuple[MemberEnd, ...]:
    """What it means to batches that a job has failed before it was put."""
    headers, body = message_codec.headers_of(each.payload), message_codec.body_of(each.payload)
    return membership.ends_of_message(headers, body, each.uuid, batch_counts.FAILED)


def _run_end(each: Sending) -> RunEnd | None:
    return membership.run_end(
        message_codec.headers_of(each.payload), each.uuid, batch_counts.FAILED
    )


def _refused(each: Sending, error: Exception) -> FailedJob:
    headers = message_codec.loads(each.payload).get("headers") or {}
    return FailedJob(
        uuid=each.uuid,
        queue=each.queue,
        connection=each.connection,
        payload=each.payload,
        task=headers.get("task"),
        exception=type(error).__name__,
        message=str(error),
        failed_at=clock.now(),
    )
