"""Brokers: where jobs wait. One contract, and a driver for each kind of broker.

`driver_for(url)` is the driver of an ordinary url (`sqlite:///var/relevo.sqlite3`, `postgresql://…`,
`mysql://…`, `redis://…`). Nothing here knows Celery: its door to a driver is `relevo/transport`.
Of kombu only the format of messages and the connections to Redis are used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from relevo.drivers.contract import Driver
from relevo.errors import SettingsError, did_you_mean

DATABASES = ("sqlite", "postgresql", "postgres", "mysql", "mariadb")
REDIS = ("redis", "rediss", "sentinel")
#: Every scheme that has a driver. `relevo://memory` is for tests: it lives in one process.
SCHEMES = (*DATABASES, *REDIS, "relevo")

# Options that don't make another connection: the lease, and the retry policy of its last message,
# which kombu's producer leaves among the transport options. With that policy in the key a reconnect
# made another driver, which didn't know that a put was the second try of the first driver's put.
_NOT_CONNECTING = frozenset(
    {"lease", "max_retries", "interval_start", "interval_step", "interval_max", "retry_errors"}
)

_open: dict[tuple[int, str, str], Driver] = {}
_opening = threading.Lock()


def is_ours(url: Any) -> bool:
    """Whether there is a driver for the broker at `url`. Celery may pass anything as a broker."""
    return isinstance(url, str) and _scheme(url) in SCHEMES


def driver_for(url: str, options: Mapping[str, Any] | None = None, ssl: Any = None) -> Driver:
    """The driver of this process for a broker url, made at the first call.

    A forked child gets its own. `options` are kombu's transport options, `ssl` is Celery's setting
    `broker_use_ssl`; both matter to Redis only.
    """
    key = (os.getpid(), url, _connecting(url, options or {}, ssl))
    with _opening:
        if key not in _open:
            _open[key] = _make(url, options or {}, ssl)
        return _open[key]


def _connecting(url: str, options: Mapping[str, Any], ssl: Any) -> str:
    """The options that make another connection, as a text. For a database there are none."""
    if _scheme(url) not in REDIS:
        return ""
    connecting = {name: value for name, value in options.items() if name not in _NOT_CONNECTING}
    return repr((sorted(connecting.items()), ssl or None))


def _scheme(url: str) -> str:
    return url.partition(":")[0].partition("+")[0]


def _make(url: str, options: Mapping[str, Any], ssl: Any) -> Driver:
    # Imported here, so that only the libraries of the brokers in use need to be installed.
    scheme = _scheme(url)
    if scheme in DATABASES:
        from relevo.drivers.database.driver import DatabaseDriver  # noqa: PLC0415

        return DatabaseDriver(url)
    if scheme in REDIS:
        from relevo.drivers.redis.driver import RedisDriver  # noqa: PLC0415

        return RedisDriver(url, options, ssl=ssl)
    if scheme == "relevo":  # relevo://memory: one process only, for tests
        from relevo.drivers.memory import MemoryDriver  # noqa: PLC0415

        return MemoryDriver.named(url)
    known = (*DATABASES, *REDIS)
    raise SettingsError(
        f"expected a broker url of {', '.join(known)}, got {scheme!r}{did_you_mean(scheme, known)}"
    )
