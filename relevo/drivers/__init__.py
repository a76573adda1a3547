"""Brokers: where jobs wait. One contract, and a driver for each kind of broker.

`driver_for(url)` is the driver of an ordinary url (`sqlite:///var/relevo.sqlite3`, `postgresql://…`,
`mysql://…`, `redis://…`). Nothing here knows Celery or kombu: `relevo/transport` is what lets them
use a driver.
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

# The lease, and what kombu's producer leaves among the transport options of its connection: its
# last message's retry policy. Reconnecting with it made another driver, which couldn't tell that a
# put was the second try of the first's.
_NOT_CONNECTING = frozenset(
    {"lease", "max_retries", "interval_start", "interval_step", "interval_max", "retry_errors"}
)

_open: dict[tuple[int, str, str], Driver] = {}
_opening = threading.Lock()


def is_ours(url: Any) -> bool:
    """Whether the broker at this url (or whatever else a broker may be for Celery) is one that we
    have a driver for.
    """
    return isinstance(url, str) and _scheme(url) in SCHEMES


def driver_for(url: str, options: Mapping[str, Any] | None = None, ssl: Any = None) -> Driver:
    """The driver of this process for a broker url, made at the first call. A forked child gets its
    own.

    `options` are kombu's transport options, `ssl` its setting `broker_use_ssl`; both matter to
    Redis only.
    """
    key = (os.getpid(), url, _connecting(url, options or {}, ssl))
    with _opening:
        if key not in _open:
            _open[key] = _make(url, options or {}, ssl)
        return _open[key]


def _connecting(url: str, options: Mapping[str, Any], ssl: Any) -> str:
    """What of the options makes it another connection: nothing for a database, all but
    _NOT_CONNECTING for Redis.
    """
    if _scheme(url) not in REDIS:
        return ""
    return repr(
        (
            sorted((name, value) for name, value in options.items() if name not in _NOT_CONNECTING),
            ssl or None,
        )
    )


def _scheme(url: str) -> str:
    return url.partition(":")[0].partition("+")[0]


def _make(url: str, options: Mapping[str, Any], ssl: Any) -> Driver:
    # Imported where they are used: who has only one broker need not have the others' libraries.
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
