"""How jobs get from a transaction of the store into their brokers.

    hand_in(connection, entries)   in the transaction: rows of the jobs table, if the broker is the
                                   store's database; else rows of the outbox
    after_commit(names)            after it: forwards the outbox at once
    forward(name)                  puts rows of the outbox into their broker, in their order

`relevo/worker/outbox_relay.py`, a thread of every worker's main process, forwards what other
processes left. So a job exists if and only if its transaction commits, and it is put once
(`relevo/store/outbox.py`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from kombu.exceptions import OperationalError
from kombu.utils.functional import retry_over_time
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from relevo import clock, drivers
from relevo.database import after_commit
from relevo.database.engine import resolve
from relevo.dispatch import failure_arguments
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
from relevo.job import error_report, membership
from relevo.store import batch_counts, batches, failed, outbox, schedules
from relevo.store.batches import MemberEnd
from relevo.store.failed import FailedJob
from relevo.store.outbox import Sending
from relevo.store.schedules import RunEnd
from relevo.store.store import Store, store_for
from relevo.transport import put_results

logger = logging.getLogger(__name__)

# How often, and how many seconds apart, a running job tries a write while the store is away.
WRITE_TRIES, WRITE_PAUSE_SECONDS = 30, 2.0


class Delivery:
    """Takes the jobs of one app to their brokers."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._drivers: dict[tuple[int, str], Any] = {}

    @property
    def store(self) -> Store:
        return store_for(self.app.settings.database_url)

    # --- in the transaction -----------------------------------------------------------------------
    def hand_in(self, connection: Connection, sendings: Sequence[Sending]) -> None:
        """Hand in jobs in a transaction of the store.

        Entries whose `once` was handed in before are left out.
        """
        fresh = [
            failure_arguments.fill(each) if each.failure else each
            for each in outbox.new_only(connection, sendings)
        ]
        for name in dict.fromkeys(each.connection for each in fresh):
            these = [each for each in fresh if each.connection == name]
            driver = self.local_driver(name, connection.engine.url)
            if driver is None:
                outbox.add(connection, [_marked(each) for each in these])
            else:
                jobs = [_new_job(each) for each in these]
                placed = database_jobs.put(connection, jobs, driver.now())
                put_results.resolve(jobs, placed)
                after_commit.add(connection, partial(put_results.announce, jobs, placed))
                after_commit.add(connection, driver.notifier.notify)

    def write_with_retry(self, step: Callable[[Connection], Any]) -> None:
        """Run `step` in a transaction of the store; while the store is away, try for a minute."""
        retry_over_time(
            self.store.write,
            DriverUnavailableError,
            [step],
            max_retries=WRITE_TRIES,
            interval_start=WRITE_PAUSE_SECONDS,
            interval_step=0,
            interval_max=WRITE_PAUSE_SECONDS,
        )

    def local_driver(self, name: str, database: URL | None = None) -> Any:
        """The driver of a connection whose broker is `database` (by default the store's).

        None for any other broker.
        """
        url = self.url_of(name)
        if url.partition(":")[0].partition("+")[0] not in drivers.DATABASES or not same_database(
            resolve(url), database or self.store.url
        ):
            return None
        return drivers.driver_for(url)

    def url_of(self, name: str) -> str:
        """The url of a connection's broker. Raises SettingsError for an unknown connection."""
        settings = self.app.settings
        if name == settings.queue_connection:
            return str(self.app.conf.broker_url)
        if name not in settings.connections:
            raise SettingsError(
                f"no connection named {name!r}{did_you_mean(name, settings.connections)}"
            )
        return str(settings.connections[name].url)

    # --- after it ---------------------------------------------------------------------------------
    def after_commit(self, *names: str) -> None:
        """Jobs for these connections are committed: forward the outbox."""
        for name in dict.fromkeys(names):
            if self.local_driver(name) is None:
                try:
                    self.forward(name)
                except DriverError as error:  # the jobs are safe: a worker's relay forwards them
                    logger.warning("the outbox of %r waits for its broker: %s", name, error)

    def forward_all(self) -> int:
        """Put all jobs of the outbox into their brokers. Returns how many. Raises DriverError."""
        return sum(self.forward(name) for name in outbox.connections(self.store))

    def forward(self, name: str) -> int:
        """Put one connection's jobs of the outbox into its broker, in order.

        A job that the broker refuses is recorded as failed. Returns how many left the outbox.
        Raises DriverError.
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
                sent = outbox.forward(self.store, name, partial(self.put_or_fail, broker), 1)
                sent = outbox.PAGE if sent else 0
            total += sent
        return total

    def put(self, broker: Any, sendings: Sequence[Sending]) -> None:
        """Put jobs into a broker: in one step with a driver of ours, else one by one."""
        if isinstance(broker, str):
            with _connected(self.app, broker) as connection:
                for each in sendings:
                    message = message_codec.loads(each.payload)
                    connection.default_channel._put(each.queue, message)  # noqa: SLF001  kombu's own
                    put_results.announce([_new_job(each)])
        else:
            jobs = [_new_job(each) for each in sendings]
            placed = broker.put(jobs)
            put_results.resolve(jobs, placed)
            put_results.announce(jobs, placed)

    def put_jobs(self, name: str, jobs: Sequence[NewJob]) -> None:
        """Put jobs that were never in the outbox into the broker of a connection."""
        broker = self.broker_of(name)
        if isinstance(broker, str):
            self.put(broker, [outbox_entry(job, name) for job in jobs])
        else:
            put_results.announce(jobs, broker.put(jobs))

    def put_or_fail(self, broker: Any, connection: Connection, sendings: Sequence[Sending]) -> None:
        """Put jobs; record those that the broker refuses as failed, in the caller's transaction."""
        try:
            self.put(broker, sendings)
        except DriverUnavailableError:
            raise
        except (DriverError, OptionError) as error:
            failed.record(connection, [_refused(each, error) for each in sendings])
            ends = [end for each in sendings for end in _ends(each, error)]
            batches.prepare_ends(ends, self.hand_in)(connection)
            schedules.end_runs(
                connection, [end for each in sendings if (end := _run_end(each)) is not None]
            )

    def broker_of(self, name: str) -> Any:
        """The driver of a connection, or its url if the broker is not one of ours.

        Raises DriverUnavailableError.
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
        app._relevo_delivery = Delivery(app)  # noqa: SLF001  one an app, as long as the app
    found: Delivery = app._relevo_delivery  # noqa: SLF001
    return found


@contextlib.contextmanager
def _connected(app: Any, url: str) -> Iterator[Any]:
    """A connection to a broker, whose errors are DriverUnavailableError instead of kombu's."""
    try:
        with app.connection_for_write(url) as connection:
            yield connection
    except OperationalError as error:
        raise DriverUnavailableError(str(error)) from error


@lru_cache(maxsize=64)
def same_database(one: URL, other: URL) -> bool:
    """Whether two urls lead to the same database."""
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
        _search_path(url),
    )


def _search_path(url: URL) -> str | None:
    """The schemas of PostgreSQL that a url names: in another one there are other tables."""
    options = url.query.get("options", "")
    found = re.findall(r"search_path\s*=\s*(\S+)", str(options))
    return found[-1].replace('"', "") if found else None


def outbox_entry(job: NewJob, connection: str, **changes: Any) -> Sending:
    """The outbox's entry of a captured job. `changes`: fields of the entry to set."""
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
    # The headers are parsed only if they may matter here: a batch sends thousands of jobs.
    headers = (
        message_codec.headers_of(each.payload)
        if each.unique_key or '"fair"' in each.payload
        else {}
    )
    unique = message_codec.unique_of(headers) if each.unique_key else {}
    conflict = (
        message_codec.conflict_of(unique) if unique and unique.get("key") == each.unique_key else {}
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
    """The entry with the header that makes the recorder store its end as a receipt."""
    message = json.loads(each.payload)
    message["headers"] = {**(message.get("headers") or {}), membership.OUTBOX_HEADER: True}
    return replace(each, payload=message_codec.dumps(message))


def _ends(each: Sending, error: Exception) -> tuple[MemberEnd, ...]:
    """What it means to batches and chords that a job has failed before it was put."""
    headers, body = message_codec.headers_of(each.payload), message_codec.body_of(each.payload)
    ends = membership.ends_of_message(headers, body, each.uuid, batch_counts.FAILED)
    return tuple(replace(end, error=error_report.title(error)) for end in ends)


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
