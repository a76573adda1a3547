"""The limits beside the jobs: those of the broker that a job came from, in this process.

A permit hangs on the job's lease, so limits live where the jobs do: a driver hands over what they stand on.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from relevo.drivers import driver_for
from relevo.drivers.contract import Driver
from relevo.limits.contract import Limits

_open: dict[tuple[int, int], Limits] = {}
_opening = threading.Lock()


def driver_of(app: Any) -> Driver:
    """The driver of the broker that this app's workers take jobs from. Raises SettingsError when it is none of ours."""
    conf = app.conf
    return driver_for(conf.broker_read_url or conf.broker_url, conf.broker_transport_options, conf.broker_use_ssl)


def limits_for(driver: Driver) -> Limits:
    """The limits beside a driver's jobs, made at the first call. A forked child gets its own."""
    key = (os.getpid(), id(driver))
    with _opening:
        if key not in _open:
            _open[key] = beside(driver)
        return _open[key]


def beside(driver: Any) -> Limits:
    """Limits beside the jobs of `driver`."""
    # Imported where they are used, as the drivers are.
    if driver.name == "redis":
        from relevo.drivers.redis.scripts import Library  # noqa: PLC0415
        from relevo.limits.redis import keys  # noqa: PLC0415
        from relevo.limits.redis.store import RedisLimits  # noqa: PLC0415

        scripts = driver.scripts_of(Library("relevo.limits.redis", keys.lua_prelude()))
        return RedisLimits(scripts.run, driver.now)
    if driver.name == "memory":
        from relevo.limits.memory import MemoryLimits  # noqa: PLC0415

        return MemoryLimits(driver.lease_ends, driver.rescue, driver.now)
    from relevo.limits.database.store import DatabaseLimits  # noqa: PLC0415

    url = driver.connections.url.render_as_string(hide_password=False)
    return DatabaseLimits(url, driver.now, driver.rescue)
