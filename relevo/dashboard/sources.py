"""Where the dashboard looks: the store, the broker's driver, and what Flower's inspector has heard
of the workers.

No task events: what happened is in the store, what is to do is in the broker, and both are there
when the dashboard starts. Everything here waits for a server, so pages call it in a thread.
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
GONE = 60.0
MOST_REMEMBERED = 256


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
        """The broker of the app's connection. Raises DriverError where it isn't one of ours."""
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
        """The queues there are: the app's own in its order, then those that hold jobs, are paused
        or are worked on.
        """
        known = dict.fromkeys(self.app.amqp.queues)
        driver = self.driver
        return list(
            dict.fromkeys([*known, *sorted({*driver.queues(), *driver.paused(), *(others or [])})])
        )

    def remembers(self, key: Hashable) -> bool:
        """Whether there is an answer that is not too old."""
        with self._lock:
            return self._remembered.get(key, (0.0, None))[0] > time.monotonic()

    def remembered(self, key: Hashable, seconds: float, make: Callable[[], Result]) -> Result:
        """What `make` said at most so many seconds ago: ten open pages ask the database once."""
        with self._lock:
            found = self._remembered.get(key)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        made = make()
        with self._lock:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = (time.monotonic() + seconds, made)
        return made


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker process that has answered lately. `processes`: jobs that it can run at once;
    `memory` in bytes.
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
    # A copy: while a page is made in its thread, Flower's loop notes who answers.
    alive = {
        name: said
        for name, said in dict(inspected).items()
        if now - said.get("timestamp", 0) < GONE
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
