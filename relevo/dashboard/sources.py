"""The sources of the dashboard: the store, the broker's driver, and Flower's inspector for workers.

No task events are needed: ended jobs are in the store, the others in the broker, and both are
complete when the dashboard starts. Everything here may wait for a server, so pages call it in a
thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from relevo.drivers import driver_for
from relevo.drivers.contract import Driver
from relevo.errors import DriverError, SettingsError
from relevo.store.store import Store, store_for

Result = TypeVar("Result")

#: Seconds after which a worker that has not answered counts as gone.
WORKER_GONE_SECONDS = 60.0
MOST_CACHED = 256


class Source:
    """The store and the broker of an app."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._remembered: dict[Hashable, tuple[float, Any]] = {}
        self._lock = threading.Lock()

    @property
    def store(self) -> Store:
        settings = getattr(self.app, "settings", None)
        if settings is None:
            raise SettingsError("this app was not made by create_app, so it has no store")
        return store_for(settings.database_url)

    @property
    def driver(self) -> Driver:
        """The driver of the app's connection. Raises DriverError if it has none of Relevo's."""
        settings = getattr(self.app, "settings", None)
        if settings is not None and settings.connection.driver == "sync":
            raise DriverError(
                "the connection 'sync' runs jobs at once and keeps no queue; set QUEUE_CONNECTION"
            )
        conf = self.app.conf
        try:
            return driver_for(conf.broker_url, conf.broker_transport_options, conf.broker_use_ssl)
        except SettingsError as error:
            raise DriverError(f"the dashboard can't look into this broker: {error}") from error

    def queues(self, others: list[str] | None = None) -> list[str]:
        """All queues: the app's in its order, then others that hold jobs, are paused, or are in
        `others`.
        """
        known = dict.fromkeys(self.app.amqp.queues)
        driver = self.driver
        return list(
            dict.fromkeys([*known, *sorted({*driver.queues(), *driver.paused(), *(others or [])})])
        )

    def has_cached(self, key: Hashable) -> bool:
        """Whether the cache has a value for this key that is not too old."""
        with self._lock:
            return self._remembered.get(key, (0.0, None))[0] > time.monotonic()

    def cached(self, key: Hashable, seconds: float, make: Callable[[], Result]) -> Result:
        """The value of `make`, at most `seconds` old: ten open pages ask the database once."""
        with self._lock:
            found = self._remembered.get(key)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        made = make()
        with self._lock:
            if len(self._remembered) >= MOST_CACHED:
                self._remembered.clear()
            self._remembered[key] = (time.monotonic() + seconds, made)
        return made


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that has answered lately. `processes`: the jobs that it can run at once; `uptime` in
    seconds; `done`: the jobs since its start.
    """

    name: str
    host: str
    queues: tuple[str, ...]
    processes: int
    pid: int | None
    uptime: float | None
    pool: str
    done: int


def workers(inspected: dict[str, Any], now: float) -> list[Worker]:
    """The workers of Flower's inspector that have answered lately, by name."""
    # A copy: while a page is made in its thread, Flower's loop adds workers that answer.
    alive = {
        name: said
        for name, said in dict(inspected).items()
        if now - said.get("timestamp", 0) < WORKER_GONE_SECONDS
    }
    return [_worker(name, alive[name]) for name in sorted(alive)]


def _worker(name: str, said: dict[str, Any]) -> Worker:
    stats = said.get("stats") or {}
    pool = stats.get("pool") or {}
    processes = pool.get("processes")
    count = pool.get("max-concurrency") or (len(processes) if isinstance(processes, list) else 0)
    done = stats.get("total") or {}
    return Worker(
        name=name,
        host=name.partition("@")[2] or name,
        queues=tuple(queue["name"] for queue in said.get("active_queues") or []),
        processes=count if isinstance(count, int) else 0,
        pid=stats.get("pid"),
        uptime=stats.get("uptime"),
        pool=str(pool.get("implementation") or "").rpartition(":")[2],
        done=sum(done.values()) if isinstance(done, dict) else 0,
    )
