"""The scheduler that `celery beat` runs. Any number of beats run side by side, without a leader.

Each beat reads the entries from its own code and knows when each is next due. It then claims the
due ticks (claim.py); a second beat finds them claimed. So a beat may die at any time. A failed step
(the store is away, a job can't be made) is tried again, and delays no other entry.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import celery.beat

from relevo.dispatch.delivery import delivery_of
from relevo.errors import (
    DriverError,
    DriverUnavailableError,
    OptionError,
    SchemaError,
    did_you_mean,
)
from relevo.exit import end_command
from relevo.schedule import claim, descriptions
from relevo.schedule import entry as entries
from relevo.schedule.entry import entries_of
from relevo.store import outbox, schedules
from relevo.store.schedules import BACK_SECONDS, EntryState
from relevo.worker import bootstep

logger = logging.getLogger(__name__)

# Seconds until the next try: while another beat has the entry, ...
BUSY_SECONDS = 0.5
# ... while the store is away, ...
AWAY_SECONDS = 2.0
# ... and after an error: the first wait, which doubles up to the longest.
AGAIN_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 60.0


class Scheduler(celery.beat.Scheduler):
    """Celery's scheduler, with entries that are claimed in the store."""

    Entry = entries.Entry
    #: The longest sleep, in seconds: the longest delay after a jump of the clock.
    max_interval = 5.0

    def setup_schedule(self) -> None:
        """Read the entries. A wrong entry ends the command with a line that names it."""
        self._next: dict[str, float] = {}
        self._retry_waits: dict[str, float] = {}
        self._synced = self._has_unsent = False
        self._seen = -math.inf
        self.delivery = delivery_of(self.app)
        self.now = claim.clock_of(self.delivery.store)
        try:
            self.schedule.update(entries_of(self.app))
            bootstep.check_schema(self.delivery.store)
            self._warn_of_unknown()
        except (OptionError, SchemaError) as error:
            end_command(str(error))
            raise

    def _warn_of_unknown(self) -> None:
        """Warn of tasks and options that this app doesn't know.

        They are no errors: the workers of another project may know them.
        """
        for name, entry in self.schedule.items():
            if entry.task not in self.app.tasks:
                near = did_you_mean(entry.task, self.app.tasks)
                logger.warning("entry %r: no task named %r here%s", name, entry.task, near)
            for option in entry.options.keys() - entries.OPTIONS:
                if near := did_you_mean(str(option), entries.OPTIONS):
                    logger.warning(
                        "entry %r: no option named %r%s It travels with the message.",
                        name,
                        option,
                        near,
                    )

    def tick(self, *_args: Any, **_options: Any) -> float:
        """Run the due entries. Returns the seconds until the next one is due."""
        begun = time.monotonic()
        try:
            now = self.now()
            if not self._synced or now < self._seen - BACK_SECONDS:
                self._sync_entries(now)
        except DriverError as error:
            logger.warning("beat waits for the store: %s", error)
            return AWAY_SECONDS
        self._seen = now
        for name, entry in self.schedule.items():
            if self._next[name] <= now:
                self._run_due(entry, now)
        if self._has_unsent:
            self._forward_outbox()
        soonest = min(self._next.values(), default=math.inf) - now - (time.monotonic() - begun)
        return min(
            max(soonest, 0.001), AWAY_SECONDS if self._has_unsent else math.inf, self.max_interval
        )

    def _sync_entries(self, now: float) -> None:
        """Read the state of all entries: at the start, and after the clock was set back."""
        states = schedules.sync_entries(
            self.delivery.store,
            {name: descriptions.as_text(entry.schedule) for name, entry in self.schedule.items()},
            now,
        )
        for name, entry in self.schedule.items():
            self._plan(entry, states[name], now)
        self._synced = True

    def _run_due(self, entry: entries.Entry, now: float) -> None:
        try:
            state, made = claim.run_due(self.delivery, entry, now)
            if state is None:
                self._next[entry.name] = now + BUSY_SECONDS
                return
            self._plan(entry, state, now)
        except DriverUnavailableError as error:
            logger.warning("entry %r waits for the store: %s", entry.name, error)
            self._next[entry.name] = now + AWAY_SECONDS
            return
        except Exception:
            wait = self._retry_waits[entry.name] = min(
                2 * self._retry_waits.get(entry.name, AGAIN_SECONDS / 2), LONGEST_WAIT_SECONDS
            )
            logger.exception(
                "entry %r could not be dispatched, it is tried again in %g s", entry.name, wait
            )
            self._next[entry.name] = now + wait
            self._has_unsent = True  # the job may be committed, and not sent
            return
        self._retry_waits.pop(entry.name, None)
        for run in made:
            done = "dispatched" if run.state is None else "another job has the unique key of"
            logger.info(
                "entry %r, due %s: %s %s as %s", entry.name, run.tick, done, entry.task, run.job_id
            )
        if made and self.delivery.local_driver(claim.connection_of(entry)) is None:
            self._has_unsent = True

    def _plan(self, entry: entries.Entry, state: EntryState, now: float) -> None:
        """Note when the entry is next due. Another beat can only have made it later."""
        at = entry.ticks.after(state.done_until(now))
        self._next[entry.name] = math.inf if at is None else at

    def _forward_outbox(self) -> None:
        """Send the committed jobs that are still in the outbox, as every worker does."""
        try:
            if outbox.connections(self.delivery.store):
                self.delivery.forward_all()
            self._has_unsent = False
        # Brokers without a driver of Relevo have errors of their own.
        except Exception as error:  # noqa: BLE001
            logger.warning("jobs wait in the outbox: %s", error)

    def sync(self) -> None:
        """Celery calls it to save the schedule; the store has all of it."""

    @property
    def info(self) -> str:
        store = delivery_of(self.app).store
        return f"    . schedule -> {store.url.render_as_string(hide_password=True)}"
