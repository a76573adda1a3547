"""Beats in this process, on every database, and a clock for them that a test moves by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from relevo import config
from relevo.app import App, create_app
from relevo.database.schema import create_schema
from relevo.drivers import driver_for
from relevo.drivers.contract import State
from relevo.schedule.beat import Scheduler
from relevo.store import schedules
from relevo.store.store import store_for
from relevo.store.tables import metadata
from tests.support.brokers import HandClock

QUEUE = "ticking"


def at(text: str) -> float:
    """An instant of 2026, as in `at("03-29 01:30")`, UTC."""
    return datetime.fromisoformat(f"2026-{text}+00:00").timestamp()


class Clockwork:
    """An app whose jobs lie in its store's database, and as many beats as a test wants."""

    def __init__(self, url: str, folder: Any, **environ: str) -> None:
        self.url, self.folder, self.environ = url, folder, environ
        self.clock = HandClock(at("03-01 12:00:30"))
        self.store = store_for(url)
        self.store.administer(create_schema)
        self.app = self.deployed()

    def deployed(self, **entries: Any) -> App:
        """The app with these entries, as another process has it."""
        given = {
            "QUEUE_CONNECTION": "database",
            "DATABASE_URL": self.url,
            "RELEVO_VAR_DIR": str(self.folder),
            "QUEUE_RESULTS": "none",
            **self.environ,
        }
        app = create_app(
            "shop", config.load(given, None), task_default_queue=QUEUE, beat_schedule=entries
        )

        @app.task(name="shop.count", shared=False)
        def count(*numbers, **_words):
            """Do nothing: the job is only dispatched."""

        return app

    def beat(self, app: App | None = None, **entries: Any) -> Scheduler:
        """A beat that has started."""
        beat = Scheduler(app or self.deployed(**entries))
        beat.now = self.clock
        beat.tick()
        return beat

    def to(self, text: str, *beats: Scheduler) -> None:
        """Set the clock to this time, and let each of these beats tick."""
        self.clock.time = at(text)
        for beat in beats:
            beat.tick()

    def runs(self, name: str | None = None) -> list[schedules.Run]:
        """Every run, oldest first."""
        return schedules.page(self.store, name, limit=1000)[::-1]

    def ticks(self, name: str | None = None) -> list[str]:
        return [run.tick[11:19] for run in self.runs(name)]

    def jobs(self) -> list[str]:
        """The ids of all the jobs in the broker."""
        driver = driver_for(self.app.conf.broker_url)
        return sorted(
            view.id for queue in driver.queues() for view in driver.peek(queue, State.PENDING, 1000)
        )

    def empty(self) -> None:
        self.store.write(
            lambda c: [c.execute(table.delete()) for table in metadata.tables.values()]
        )
        driver = driver_for(self.app.conf.broker_url)
        for queue in driver.queues():
            driver.clear(queue)
            driver.resume(queue)
