"""Connections to Redis: kombu's own, so that urls, TLS, credentials, Sentinel and client names mean what they did.

A stock kombu connection is made (and never used for messages); its channel knows how to make a connection pool.
Timeouts are filled in where nothing is said: without them a connection whose other end has silently gone blocks for a quarter of
an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kombu.connection import Connection
from kombu.transport import virtual
from redis import ConnectionPool, Redis
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,  # noqa: A004  Redis's own
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)

from relevo.errors import DriverError, DriverUnavailableError

STOCK = {"sentinel": "kombu.transport.redis:SentinelTransport"}
STOCK_REDIS = "kombu.transport.redis:Transport"
TIMEOUTS: Mapping[str, Any] = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0, "socket_keepalive": True}
# Away for now, and worth another try: no connection, loading its file, a replica after a failover.
_AWAY = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, MasterDownError, TryAgainError, OSError)


def pool_for(url: str, options: Mapping[str, Any], ssl: Any = None) -> ConnectionPool:
    """A connection pool for a broker url and kombu's transport options."""
    scheme = url.partition(":")[0].partition("+")[0]
    # The prefix goes with our keys; kombu's prefixing client knows nothing of scripts.
    given = {name: value for name, value in options.items() if name not in {"global_keyprefix", "lease"}}
    connection = Connection(
        url, transport=STOCK.get(scheme, STOCK_REDIS), transport_options={**TIMEOUTS, **given}, ssl=ssl or False
    )
    transport = connection.transport
    pool: ConnectionPool = _parameters_of(transport.Channel)(transport)._get_pool()  # noqa: SLF001  no public way
    return pool


def _parameters_of(channel: type) -> type:
    """Kombu's channel class without its start, which connects; what is left reads the parameters."""

    def start(self: Any, transport: Any) -> None:
        virtual.Channel.__init__(self, transport)
        self._registered = False  # what kombu's end of a channel asks for

    return type("Parameters", (channel,), {"__init__": start, "__del__": lambda _self: None})


@contextmanager
def translated() -> Iterator[None]:
    """Redis's errors in our words: away, or refused."""
    try:
        yield
    except _AWAY as error:
        raise DriverUnavailableError(f"redis: {error}") from error
    except ResponseError as error:
        if "OOM" in str(error):
            raise DriverError(f"redis is full (maxmemory), nothing was put: {error}") from error
        if any(sign in str(error) for sign in ("MASTERDOWN", "READONLY", "LOADING", "UNBLOCKED")):
            raise DriverUnavailableError(f"redis: {error}") from error
        raise DriverError(f"redis: {error}") from error
    except RedisError as error:
        raise DriverError(f"redis: {error}") from error


def client_for(pool: ConnectionPool) -> Redis:
    return Redis(connection_pool=pool)
