"""The kombu transport: how Celery's worker, its clients, beat and Flower use a driver without
knowing.

It is a synchronous one on purpose (`asynchronous=False`): the worker then runs its plain loop and
billiard's threaded pool, whose warm stop is quick and exact, where the event loop's pool throws
away what it has already written to a child (docs/internals.md has the figures).

    drain_events:  mail -> jobs -> nothing? wait for: an ack (room again), the driver's subscription, SIGTERM, the pause's end

While the broker is away `drain_events` delivers nothing and tries again; Celery never sees a lost
connection, so it never throws away what is running.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import time
import weakref
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from kombu.transport import base, virtual

from relevo.drivers import driver_for
from relevo.drivers.contract import Driver, Subscription
from relevo.errors import DriverError, DriverUnavailableError
from relevo.transport import admission, deferred_signals, work_limits
from relevo.transport.channel import Channel
from relevo.transport.lease_keeper import Ledger
from relevo.transport.qos import places_taken
from relevo.transport.waker import Waker

logger = logging.getLogger(__name__)

# How long a lease holds, in seconds, where the transport option `lease` (a connection's
# retry_after) doesn't say.
LEASE = 30.0
# After work a consumer looks again soon, then ever less often until it only listens: the first
# pause, in seconds.
FIRST_PAUSE = 0.01
# Seconds between tries while the broker is away: first and longest.
FIRST_RETRY, LONGEST_RETRY = 0.2, 5.0
# Mail is looked for at least this often, in seconds: a mailbox that is not read is closed (a
# worker's after 10 s), and on a SQLite file that nobody writes to the subscription is silent for hours.
MAIL_EVERY = 2.0
# A call of drain_events that delivers nothing takes at least this long, in seconds. Under gevent
# remote control has a loop of its own, which during a stop would never let the others run.
YIELD = 0.001

_ledgers: dict[tuple[int, int], Ledger] = {}
#: What is to be done when a worker's process ends, while its leases are still held.
at_end: list[Callable[[], None]] = []
_transports: weakref.WeakSet[Transport] = weakref.WeakSet()


class Transport(virtual.Transport):
    """One kombu connection to a driver."""

    Channel = Channel
    can_parse_url = True
    driver_type = "database"
    driver_name = "relevo"
    polling_interval = None  # type: ignore[assignment]  # the subscription says when
    connection_errors = (DriverUnavailableError, *base.Transport.connection_errors)  # type: ignore[assignment]
    channel_errors = (DriverError, *base.Transport.channel_errors)  # type: ignore[assignment]
    implements = virtual.Transport.implements.extend(
        asynchronous=False,
        exchange_type=frozenset(["direct", "topic", "fanout"]),
        heartbeats=False,
        batch_publish=True,
    )

    client: Any
    driver: Driver
    ledger: Ledger

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.waker = Waker()
        self.mailboxes: set[str] = set()
        self.passing: dict[str, float] = {}
        self._subscription: Subscription | None = None
        self._watched: list[str] = []
        self._pause, self._waited = FIRST_PAUSE, 0.0
        self._heard = self._mail_heard = True
        self._mail_looked_for = 0.0
        self._away_since: float | None = None
        self._retry = FIRST_RETRY
        _transports.add(self)

    def driver_version(self) -> str:
        # the package's own module imports this one's users
        return version("relevo")

    def establish_connection(self) -> Any:
        self.driver = driver_for(self._url(), self.client.transport_options, self.client.ssl)
        # the broker is there, and so are its tables: or the start fails here, in one line
        self.driver.paused()
        self.ledger = ledger_for(
            self.driver, float(self.client.transport_options.get("lease", LEASE))
        )
        return super().establish_connection()

    def _url(self) -> str:
        if self.client.alt:  # several Sentinels
            return ";".join(self.client.alt)
        # kombu takes `postgresql+psycopg://` apart into the transport and the rest.
        prefix, rest = self.client.uri_prefix, self.client.hostname
        return f"{prefix}+{rest}" if prefix and not rest.startswith(f"{prefix}+") else rest

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        return uri if include_password else re.sub(r"(://[^:/@]*:)[^@]*@", rf"\1{mask}@", uri)

    def close_connection(self, connection: Any) -> None:
        super().close_connection(connection)
        self._close_subscription()

    # --- the loop ---------------------------------------------------------------------------------
    def drain_events(self, connection: Any, timeout: float | None = None, **_options: Any) -> None:  # noqa: ARG002
        """Deliver what there is, or wait up to `timeout` seconds for it. Raises `socket.timeout`
        when nothing came.
        """
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while (
            not work_limits.stop_asked()
        ):  # a worker that is to stop takes nothing more; its loop must come round at once
            if self._serve():
                return
            left = end - time.monotonic()
            if left <= 0:
                break
            self._wait(left)
        with deferred_signals.wait():
            time.sleep(YIELD)
        raise TimeoutError  # which is socket.timeout

    def _serve(self) -> bool:
        # Leases first: after a long absence the next reservation would take our own running jobs
        # for a dead worker's.
        if self._away_since is not None and not self.ledger.renew():
            return self._gone("its leases could not be renewed")
        try:
            delivered = self._serve_once()
        except DriverUnavailableError as error:
            return self._gone(str(error))
        self._back()
        return delivered

    def _serve_once(self) -> bool:
        heard, self._heard = self._heard, False
        channels = list(self.channels)
        look = (heard and self._mail_heard) or self._mail_is_due()
        mail = [channel.deliver_mail() for channel in channels] if look else []
        jobs = [channel.deliver_jobs(heard) for channel in channels]
        if any(mail) or any(jobs):
            self._pause, self._waited = FIRST_PAUSE, 0.0
            if any(mail):
                self._heard = self._mail_heard = True
            return True
        if work_limits.current is not None and (queues := self._queues()) and not places_taken():
            work_limits.current.look(self.driver, self.ledger, queues)
        return False

    def _mail_is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._mail_looked_for >= MAIL_EVERY
        if due:
            self._mail_looked_for = now
        return due

    def _wait(self, left: float) -> None:
        if self._away_since is not None:
            with deferred_signals.wait():
                self.waker.wait(min(left, self._retry))
            self._heard = self._mail_heard = True
            return
        subscription = self._listen()
        subscription.listen(self._room(), self.mailboxes)
        pause = min(self._pause, subscription.interval)
        started = time.monotonic()
        with deferred_signals.wait():
            _rung, called = self.waker.wait(
                min(left, max(pause - self._waited, 0)), subscription.fileno()
            )
        # Summed up: who never waits for a whole pause at a time would be deaf where the subscription can't
        # call.
        self._waited += time.monotonic() - started
        if called or self._waited >= pause:
            self._poll(subscription)

    def _poll(self, subscription: Subscription) -> None:
        self._waited = 0.0
        self._heard, self._mail_heard = subscription.poll(), subscription.is_mail
        self._pause = min(self._pause * 2, subscription.interval)
        if self._heard and not self._room():
            subscription.decline()

    def _room(self) -> bool:
        return any(channel.has_room() for channel in self.channels)

    def _queues(self) -> list[str]:
        return [queue for channel in self.channels for queue in channel.job_queues()]

    def _listen(self) -> Subscription:
        queues = self._queues()
        if self._subscription is None or queues != self._watched:
            self._close_subscription()
            self._subscription, self._watched = self.driver.watch(queues), queues
        return self._subscription

    def _close_subscription(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    # --- the broker away and back -----------------------------------------------------------------
    def _gone(self, reason: str) -> bool:
        if self._away_since is None:
            self._away_since, self._retry = time.monotonic(), FIRST_RETRY
            logger.warning("the broker is away, running jobs go on: %s", reason)
        self._retry = min(self._retry * 2, LONGEST_RETRY)
        return False

    def _back(self) -> None:
        if self._away_since is not None:
            logger.warning("the broker is back after %.1f s", time.monotonic() - self._away_since)
            self._away_since = None


def ledger_for(driver: Driver, lease: float) -> Ledger:
    """The ledger of this process for a driver: one, whichever connection takes the jobs."""
    key = (os.getpid(), id(driver))
    if key not in _ledgers:
        _ledgers[key] = Ledger(driver, lease)
    if admission.maker is not None and type(_ledgers[key].gate) is admission.Gate:
        _ledgers[key].gate = admission.maker(driver)
    return _ledgers[key]


def worker_starts(**_signal: Any) -> None:
    """The process is a worker: what it holds outlives its channels, and goes back when the process
    ends, however.
    """
    Ledger.outlives_channels = True
    atexit.register(worker_ended)  # Celery sends no signal at the end of a cold stop


def worker_stops(**_signal: Any) -> None:
    """A stop was asked for: wake every loop that waits, so that it sees it at once."""
    for transport in list(_transports):
        transport.waker.ring()


def worker_ended(**_signal: Any) -> None:
    """The process ends: ack what is done, put back what is left."""
    for last in at_end:
        last()
    for (pid, _driver), ledger in list(_ledgers.items()):
        if pid == os.getpid():
            ledger.close()
    Ledger.outlives_channels = (
        False  # a worker inside another program (a test) is over, and that program is not
    )
