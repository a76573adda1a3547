"""Connections to Redis, made by kombu so that urls and options mean what they mean there.

That goes for TLS, credentials, Sentinel and client names. A stock kombu connection is made and
never used for messages; its channel makes a connection pool. Missing options get defaults, and
options that would break a promise are overruled:

* Timeouts. Without them a connection whose other end has silently gone blocks for a quarter of an
  hour.
* No blind resending (`retry`). redis-py may send a command again after a timeout, without knowing
  whether the first was carried out: a `put` would make two jobs, a `reserve` would lose the jobs of
  the first answer. The caller decides; `idempotency.py` has the two verbs that must not run twice.
* RESP 2 and bytes. The scripts' answers look alike in both protocols, but only RESP 3 has pushed
  messages, which a subscription would take for its answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kombu.connection import Connection
from kombu.transport import virtual
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,  # noqa: A004  Redis's own
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)
from redis.retry import Retry

from relevo.errors import DriverError, DriverUnavailableError

STOCK = {"sentinel": "kombu.transport.redis:SentinelTransport"}
STOCK_REDIS = "kombu.transport.redis:Transport"
TIMEOUTS: Mapping[str, Any] = {
    "socket_timeout": 5.0,
    "socket_connect_timeout": 5.0,
    "socket_keepalive": True,
}
# Each thread that talks to Redis has a connection. With kombu's 10 the eleventh would get an error.
CONNECTIONS = 10_000
# The transport options that kombu doesn't get: our own, and those that we overrule.
_NOT_KOMBUS = {"global_keyprefix", "lease", "retry_on_timeout"}
# Unavailable for now: no connection, a server that is loading its file, a replica after a failover.
_UNAVAILABLE = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    MasterDownError,
    TryAgainError,
    OSError,
)
# The same in the texts of errors without a class in redis-py, or that Redis 6 wraps when they
# happen in a script. Nothing was done then: the last two refuse every write until a disk or a
# replica is back.
_UNAVAILABLE_SIGNS = (
    "MASTERDOWN",
    "READONLY",
    "LOADING",
    "UNBLOCKED",
    "BUSY",
    "MISCONF",
    "NOREPLICAS",
)


def pool_for(url: str, options: Mapping[str, Any], ssl: Any = None) -> ConnectionPool:
    """A connection pool for a broker url and kombu's transport options."""
    scheme = url.partition(":")[0].partition("+")[0]
    # Our keys have the prefix; kombu's prefixing client doesn't prefix the keys of scripts.
    given = {name: value for name, value in options.items() if name not in _NOT_KOMBUS}
    given = {**TIMEOUTS, "max_connections": CONNECTIONS, **given}
    if scheme == "sentinel":
        # Try the next Sentinel at once when one is down, not after redis-py's ten tries.
        given["sentinel_kwargs"] = {
            **_sockets(given),
            "retry": _no_retry(),
            **(given.get("sentinel_kwargs") or {}),
        }
    stock = STOCK.get(scheme, STOCK_REDIS)
    connection = Connection(url, transport=stock, transport_options=given, ssl=ssl or False)
    connection.transport_cls = (
        stock  # of `redis+socket://…` kombu would make its `redis`, which is us
    )
    transport = connection.transport
    # kombu has no public way to its pool.
    pool: ConnectionPool = _parameters_of(transport.Channel)(transport)._get_pool()  # noqa: SLF001
    return pool


class IdleConnections:
    """Connections taken out of a pool for good: each is taken for a command and put back after it.

    redis-py's pool counts and measures when one is taken and put back: 27 us.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool, self._pid = pool, os.getpid()
        self._connections: list[Any] = []

    def take(self) -> Any:
        """A connection that is ready for a command. Raises redis-py's errors."""
        if self._pid != os.getpid():  # they are the parent's
            self._connections, self._pid = [], os.getpid()
        try:
            connection = self._connections.pop()
        except IndexError:
            return self._pool.get_connection()
        # As the pool looks: what can be read is the end of the connection, or an answer to another
        # command.
        try:
            connection.connect()
            is_used = connection.can_read()
        except (ConnectionError, TimeoutError, OSError):
            is_used = True
        if is_used:
            connection.disconnect()
            self._pool.release(connection)
            return self._pool.get_connection()
        return connection

    def put_back(self, connection: Any) -> None:
        self._connections.append(connection)

    def disconnect(self) -> None:
        """Close those that nobody has taken. They connect again when they are taken."""
        for connection in tuple(self._connections):
            connection.disconnect()


def _parameters_of(channel: type) -> type:
    """Kombu's channel class without its constructor, which connects: it gives the parameters."""

    def start(self: Any, transport: Any) -> None:
        virtual.Channel.__init__(self, transport)
        self._registered = False  # kombu reads it when the channel ends

    def parameters(self: Any, asynchronous: bool = False) -> dict[str, Any]:
        theirs: dict[str, Any] = channel._connparams(self, asynchronous)  # type: ignore[attr-defined] # noqa: SLF001
        return {
            **theirs,
            "retry": _no_retry(),
            "retry_on_timeout": False,
            "protocol": 2,
            "decode_responses": False,
        }

    members = {"__init__": start, "__del__": lambda _self: None, "_connparams": parameters}
    return type("Parameters", (channel,), members)


def _sockets(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in options.items()
        if name.startswith("socket_") and value is not None
    }


def _no_retry() -> Retry:
    return Retry(NoBackoff(), 0)


@contextmanager
def translated() -> Iterator[None]:
    """Turn redis-py's errors into `DriverUnavailableError` and `DriverError`."""
    try:
        yield
    except _UNAVAILABLE as error:
        raise DriverUnavailableError(f"redis: {error}") from error
    except ResponseError as error:
        if isinstance(error, OutOfMemoryError) or "OOM" in str(error):  # Redis 6 wraps it
            raise DriverError(f"redis is full (maxmemory), nothing was put: {error}") from error
        if any(sign in str(error) for sign in _UNAVAILABLE_SIGNS):
            raise DriverUnavailableError(f"redis: {error}") from error
        raise DriverError(f"redis: {error}") from error
    except RedisError as error:
        raise DriverError(f"redis: {error}") from error
