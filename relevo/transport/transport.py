"""The kombu transport: Celery's worker, its clients, beat and Flower use a driver without knowing.

It is a synchronous transport on purpose (`asynchronous=False`). The worker then runs its plain loop
and our own pool (`relevo/worker/pool`), whose warm stop is quick and exact. The event loop's pool
throws away what it has already written to a child (docs/internals.md has the figures).

    drain_events: mail, then jobs, then wait for one of
                  an ack (there is capacity again), the driver's subscription, a signal, the pause

While the broker is away `drain_events` delivers nothing and tries again. Celery never sees a lost
connection, so it never throws away what is running.
"""

from __future__ import annotations

import logging
import re
import time
from importlib.metadata import version
from typing import Any

from kombu.transport import base, virtual

from relevo.drivers import driver_for
from relevo.drivers.contract import Driver, Subscription
from relevo.errors import DriverError, DriverUnavailableError
from relevo.transport import deferred_signals, work_limits
from relevo.transport.channel import Channel
from relevo.transport.context import WorkerContext, current
from relevo.transport.lease_keeper import LeaseKeeper
from relevo.transport.qos import active_jobs
from relevo.transport.waker import Waker

logger = logging.getLogger(__name__)

# How long a lease holds, in seconds, without the transport option `lease` (a connection's
# retry_after).
LEASE = 30.0
# After work a consumer polls again soon, then ever less often, until it only listens: the first
# pause, in seconds.
FIRST_PAUSE = 0.01
# Seconds between tries while the broker is away: first and longest.
FIRST_RETRY, LONGEST_RETRY = 0.2, 5.0
# Mail is read at least this often, in seconds: a mailbox that is not read is deleted (a worker's
# after 10 s), and a subscription to a SQLite file is silent as long as nobody writes to it.
MAIL_EVERY = 2.0
# A call of drain_events that delivers nothing takes at least this long, in seconds. Under gevent
# remote control has a loop of its own, which during a stop would never let other greenlets run.
YIELD = 0.001


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
    #: The context of the process, and what it has for this broker; set by the connection.
    context: WorkerContext
    driver: Driver
    keeper: LeaseKeeper

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.waker = Waker()
        self.mailboxes: set[str] = set()
        #: Queues that go with their owner, and the seconds after which they are deleted unread.
        self.temporary: dict[str, float] = {}
        self._subscription: Subscription | None = None
        self._watched: list[str] = []
        self._pause, self._waited = FIRST_PAUSE, 0.0
        self._has_news = self._has_mail = True
        self._mail_read_at = 0.0
        self._unavailable_since: float | None = None
        self._retry = FIRST_RETRY

    def driver_version(self) -> str:
        # not from `relevo`, which stands above this module
        return version("relevo")

    def establish_connection(self) -> Any:
        self.driver = driver_for(self._url(), self.client.transport_options, self.client.ssl)
        self.driver.paused()  # without a broker, or its tables, the start fails here in one line
        self.context = current()
        self.context.add_waker(self.waker)
        self.keeper = self.context.keeper_for(
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
        """Deliver mail and jobs, or wait up to `timeout` seconds for some.

        Raises TimeoutError if nothing came.
        """
        end = float("inf") if timeout is None else time.monotonic() + timeout
        # A worker that is to stop takes nothing more, and its loop must come round at once.
        while not work_limits.stop_asked():
            if self._serve():
                return
            left = end - time.monotonic()
            if left <= 0:
                break
            self._wait(left)
        with deferred_signals.allow():
            time.sleep(YIELD)
        raise TimeoutError  # kombu expects socket.timeout, which is the same

    def _serve(self) -> bool:
        # Leases first: after a long absence the next reservation would take our own running jobs
        # for those of a dead worker.
        if self._unavailable_since is not None and not self.keeper.renew():
            return self._on_unavailable("leases could not be extended")
        try:
            delivered = self._serve_once()
        except DriverUnavailableError as error:
            return self._on_unavailable(str(error))
        self._on_available()
        return delivered

    def _pool_filenos(self) -> list[int]:
        """What becomes readable when a child of the pool answers."""
        pool = self.context.pool
        return [] if pool is None else pool.filenos()

    def _seconds_to_look(self) -> float:
        pool = self.context.pool
        return float("inf") if pool is None else pool.seconds_to_look()

    def _is_busy(self) -> bool:
        pool = self.context.pool
        return active_jobs() > 0 or (pool is not None and pool.jobs_in_flight() > 0)

    def _serve_once(self) -> bool:
        if self.context.pool is not None:
            self.context.pool.collect()
        heard, self._has_news = self._has_news, False
        channels = list(self.channels)
        read_mail = (heard and self._has_mail) or self._mail_is_due()
        mail = [channel.deliver_mail() for channel in channels] if read_mail else []
        jobs = [channel.deliver_jobs(heard) for channel in channels]
        if any(mail) or any(jobs):
            self._pause, self._waited = FIRST_PAUSE, 0.0
            if any(mail):
                self._has_news = self._has_mail = True
            return True
        limits = self.context.work_limits
        if limits.are_set and (queues := self._queues()) and not self._is_busy():
            limits.check_done(self.driver, self.keeper, queues, self.context.is_settled)
        return False

    def _mail_is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._mail_read_at >= MAIL_EVERY
        if due:
            self._mail_read_at = now
        return due

    def _wait(self, left: float) -> None:
        if self._unavailable_since is not None:
            with deferred_signals.allow():
                self.waker.wait(min(left, self._retry), others=self._pool_filenos())
            self._has_news = self._has_mail = True
            return
        subscription = self._listen()
        subscription.listen(self._has_capacity(), self.mailboxes)
        pause = min(self._pause, subscription.interval)
        started = time.monotonic()
        with deferred_signals.allow():
            _rung, called = self.waker.wait(
                min(left, max(pause - self._waited, 0), self._seconds_to_look()),
                subscription.fileno(),
                self._pool_filenos(),
            )
        # Summed up: a loop that never waits for a whole pause at a time would never poll a
        # subscription that can't call.
        self._waited += time.monotonic() - started
        if called or self._waited >= pause:
            self._poll(subscription)

    def _poll(self, subscription: Subscription) -> None:
        self._waited = 0.0
        self._has_news, self._has_mail = subscription.poll(), subscription.is_mail
        self._pause = min(self._pause * 2, subscription.interval)
        if self._has_news and not self._has_capacity():
            subscription.decline()

    def _has_capacity(self) -> bool:
        return any(channel.has_capacity() for channel in self.channels)

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
    def _on_unavailable(self, reason: str) -> bool:
        if self._unavailable_since is None:
            self._unavailable_since, self._retry = time.monotonic(), FIRST_RETRY
            logger.warning("the broker is away; running jobs go on: %s", reason)
        self._retry = min(self._retry * 2, LONGEST_RETRY)
        return False

    def _on_available(self) -> None:
        if self._unavailable_since is not None:
            logger.warning(
                "the broker is back after %.1f s", time.monotonic() - self._unavailable_since
            )
            self._unavailable_since = None
