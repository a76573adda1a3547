"""Connections to Redis: kombu's own, so that urls, TLS, credentials, Sentinel and client names mean
what they did.

A stock kombu connection is made (and never used for messages); its channel knows how to make a
connection pool. What it leaves open is filled in, and what would break a promise is not left to it:

* Timeouts. Without them a connection whose other end has silently gone blocks for a quarter of an hour.
* No blind resending (`retry`). redis-py can send a command again after a timeout, not knowing whether it was carried
  out: a `put` would make two jobs, a `reserve` would lose the jobs of its first answer. Who calls
  decides; see `requests.py` for the two verbs that must not be done twice.
* RESP 2 and bytes. The scripts' answers look the same in both protocols, but only the newer one has messages that
  nobody asked for, and the bell must not take one for its answer.
"""

from __future__ import annotations

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
# Each thread that talks to Redis at the same time has a connection. kombu's 10 would be an error in
# the eleventh.
CONNECTIONS = 10_000
# What is ours and what we decide; the rest of the transport options is kombu's.
_NOT_KOMBUS = {"global_keyprefix", "lease", "retry_on_timeout"}
# Away for now, and worth another try: no connection, loading its file, a replica after a failover.
_AWAY = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    MasterDownError,
    TryAgainError,
    OSError,
)
# The same in the texts of errors that redis-py has no class for, or that Redis 6 wraps when they
# happen in a script. Nothing was done then: the last two refuse every write until a disk or a
# replica is back.
_AWAY_SIGNS = ("MASTERDOWN", "READONLY", "LOADING", "UNBLOCKED", "BUSY", "MISCONF", "NOREPLICAS")


def pool_for(url: str, options: Mapping[str, Any], ssl: Any = None) -> ConnectionPool:
    """A connection pool for a broker url and kombu's transport options."""
    scheme = url.partition(":")[0].partition("+")[0]
    # The prefix goes with our keys; kombu's prefixing client knows nothing of scripts.
    given = {name: value for name, value in options.items() if name not in _NOT_KOMBUS}
    given = {**TIMEOUTS, "max_connections": CONNECTIONS, **given}
    if scheme == "sentinel":
        # One that is down is left for the next at once, not after redis-py's ten tries.
        given["sentinel_kwargs"] = {
            **_sockets(given),
            "retry": _once(),
            **(given.get("sentinel_kwargs") or {}),
        }
    stock = STOCK.get(scheme, STOCK_REDIS)
    connection = Connection(url, transport=stock, transport_options=given, ssl=ssl or False)
    connection.transport_cls = (
        stock  # of `redis+socket://…` kombu would make its `redis`, which is us
    )
    transport = connection.transport
    # no public way
    pool: ConnectionPool = _parameters_of(transport.Channel)(transport)._get_pool()  # noqa: SLF001
    return pool


def _parameters_of(channel: type) -> type:
    """Kombu's channel class without its start, which connects; what is left reads the parameters."""

    def start(self: Any, transport: Any) -> None:
        virtual.Channel.__init__(self, transport)
        self._registered = False  # what kombu's end of a channel asks for

    def parameters(self: Any, asynchronous: bool = False) -> dict[str, Any]:
        theirs: dict[str, Any] = channel._connparams(self, asynchronous)  # type: ignore[attr-defined] # noqa: SLF001
        return {
            **theirs,
            "retry": _once(),
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


def _once() -> Retry:
    return Retry(NoBackoff(), 0)


@contextmanager
def translated() -> Iterator[None]:
    """Redis's errors in our words: away, or refused."""
    try:
        yield
    except _AWAY as error:
        raise DriverUnavailableError(f"redis: {error}") from error
    except ResponseError as error:
        if isinstance(error, OutOfMemoryError) or "OOM" in str(error):  # Redis 6 wraps it
            raise DriverError(f"redis is full (maxmemory), nothing was put: {error}") from error
        if any(sign in str(error) for sign in _AWAY_SIGNS):
            raise DriverUnavailableError(f"redis: {error}") from error
        raise DriverError(f"redis: {error}") from error
    except RedisError as error:
        raise DriverError(f"redis: {error}") from error
