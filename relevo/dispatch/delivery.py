"""How jobs get from a transaction of the store into their brokers.

    hand_in(connection, entries)   in the transaction: rows of the jobs table, if the broker is the
                                   store's database; else rows of the outbox
    after_commit(names)            after it: forwards the outbox at once
    forward(name)                  puts rows of the outbox into their broker, in their order

`relevo/worker/outbox_relay.py`, a thread of every worker's main process, forwards what other
processes left. So a job exists if and only if its transaction commits, and it is put once
(`relevo/store/outbox.py`).

A caller's transaction may stay open for hours, so what is handed in there locks nothing that a
worker or another caller needs. A job with a unique key does: it goes through the outbox, whatever
its broker is. And no lock is held while a broker is waited for. A caller puts what is free at once,
and doesn't try while a broker is known to be away.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from kombu.exceptions import OperationalError
from kombu.utils.functional import retry_over_time
from sqlalchemy import Connection
from sqlalchemy.engine import URL

from relevo import drivers
from relevo.database import after_commit
from relevo.database.engine import resolve
from relevo.dispatch import failure_arguments
from relevo.dispatch.sendings import ends, marked, new_job, refused, run_end
from relevo.drivers import message_codec
from relevo.drivers.database import jobs as database_jobs
from relevo.drivers.values import NewJob, Placed
from relevo.errors import (
    DriverError,
    DriverUnavailableError,
    OptionError,
    SettingsError,
    did_you_mean,
)
from relevo.store import batches, failed, outbox, schedules
from relevo.store.outbox import Claim, OutboxRow, Sending
from relevo.store.store import Store, store_for
from relevo.transport import put_results

logger = logging.getLogger(__name__)

# How often, and how many seconds apart, a running job tries a write while the store is away.
WRITE_TRIES, WRITE_PAUSE_SECONDS = 30, 2.0
# For so many seconds after a broker was away, callers leave its jobs to the relay.
AWAY_SECONDS = 30.0
# The most pages of the outbox that a caller sends after its commit. The rest is for the relay.
CALLERS_PAGES = 5


class Delivery:
    """Takes the jobs of one app to their brokers."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._drivers: dict[tuple[int, str], Any] = {}
        # Connections whose broker is the store's database, and that have had a job in the outbox.
        self._outboxed: set[str] = set()
        self._away_until: dict[str, float] = {}

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
                outbox.add(connection, [marked(each) for each in these])
                continue
            if unique := [each for each in these if each.unique_key is not None]:
                outbox.add(connection, unique)
                self._outboxed.add(name)
            jobs = [new_job(each) for each in these if each.unique_key is None]
            placed = database_jobs.hand_in(connection, jobs, driver.now())
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
            if self.local_driver(name) is not None and name not in self._outboxed:
                continue
            if time.monotonic() < self._away_until.get(name, 0.0):
                continue
            try:
                self.forward(name, CALLERS_PAGES)
            except DriverError as error:  # the jobs are safe: a worker's relay forwards them
                logger.warning("the outbox of %r waits for its broker: %s", name, error)

    def forward_all(self) -> int:
        """Put all jobs of the outbox into their brokers. Returns how many. Raises DriverError."""
        return sum(self.forward(name) for name in outbox.connections(self.store))

    def forward(self, name: str, pages: float = math.inf) -> int:
        """Put one connection's jobs of the outbox into its broker, in order.

        Leaves those that another process is sending, and those behind them. A job that the broker
        refuses is recorded as failed. Returns how many left the outbox. Raises DriverError.
        """
        send = self._send_page if self.local_driver(name) is None else self._move_page
        total = page = 0
        try:
            while page < pages and (sent := send(name)):
                total, page = total + sent, page + 1
        except DriverUnavailableError:
            self._away_until[name] = time.monotonic() + AWAY_SECONDS
            raise
        self._away_until.pop(name, None)
        return total

    def _send_page(self, name: str) -> int:
        """Claim a page, put it without a lock, and delete it. Returns how many left the outbox."""
        claim = outbox.claim(self.store, name)
        if not claim.rows:
            return 0
        try:
            broker = self.broker_of(name)
            try:
                self.put(broker, claim.sendings)
            except (DriverError, OptionError) as error:
                if isinstance(error, DriverUnavailableError):
                    raise
                logger.exception("jobs of the outbox were refused together, each is tried alone")
                self._put_each(broker, claim)
            else:
                self.store.write(lambda connection: outbox.delete(connection, claim.rows))
        except BaseException:
            with contextlib.suppress(DriverError):  # the claim ends by itself
                outbox.give_up(self.store, claim)
            raise
        return len(claim.rows)

    def _put_each(self, broker: Any, claim: Claim) -> None:
        for row in claim.rows:
            refusal = None
            try:
                self.put(broker, [row.sending])
            except DriverUnavailableError:
                raise
            except (DriverError, OptionError) as error:
                refusal = error
            self.store.write(partial(self._delete_or_fail, row=row, refusal=refusal))

    def _delete_or_fail(
        self, connection: Connection, row: OutboxRow, refusal: Exception | None
    ) -> None:
        """Delete a row of the outbox. A job that was refused is recorded as failed."""
        if refusal is not None:
            failed.record(connection, [refused(row.sending, refusal)])
            batches.prepare_ends(ends(row.sending, refusal), self.hand_in)(connection)
            if (end := run_end(row.sending)) is not None:
                schedules.end_runs(connection, [end])
        outbox.delete(connection, [row])

    def _move_page(self, name: str) -> int:
        """Move a page into the jobs table of the same database, in one transaction."""
        driver = self.local_driver(name)

        def move(connection: Connection) -> tuple[list[NewJob], list[Placed]]:
            rows = outbox.lock_free(connection, name)
            jobs = [new_job(row.sending) for row in rows]
            placed = database_jobs.put(connection, jobs, driver.now())
            outbox.delete(connection, rows)
            return jobs, placed

        if not outbox.has_free(self.store, name):
            return 0
        try:
            jobs, placed = self.store.write(move)
        except DriverUnavailableError:
            raise
        except (DriverError, OptionError):
            return self._send_page(name)  # which tries each job alone
        put_results.resolve(jobs, placed)
        put_results.announce(jobs, placed)
        driver.notifier.notify()
        return len(jobs)

    def put(self, broker: Any, sendings: Sequence[Sending]) -> None:
        """Put jobs into a broker: in one step with a driver of ours, else one by one."""
        if isinstance(broker, str):
            with _connected(self.app, broker) as connection:
                for each in sendings:
                    message = message_codec.loads(each.payload)
                    connection.default_channel._put(each.queue, message)  # noqa: SLF001  kombu's own
                    put_results.announce([new_job(each)])
        else:
            jobs = [new_job(each) for each in sendings]
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
