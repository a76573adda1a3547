"""The scheduler that `celery beat` runs: any number of them, side by side, and nobody leads.

Each knows the entries of its own code, keeps for each the instant it is next due, and takes its
turn then (turn.py); whoever comes second finds the tick run. One that dies is missed by nobody.
What could not be done (the store away, a job that can't be made) is tried again, and holds up no
other entry.
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

# Seconds until it is tried again: what another beat is at; to reach the store; what went wrong,
# first and at most.
BUSY_SECONDS, AWAY_SECONDS, AGAIN_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 2.0, 5.0, 60.0


class Scheduler(celery.beat.Scheduler):
    """Celery's scheduler, whose entries are claimed in the store."""

    Entry = entries.Entry
    #: The longest it sleeps, in seconds: after a jump of the clock it is no later than this.
    max_interval = 5.0

    def setup_schedule(self) -> None:
        """Read the entries. A wrong one ends the command with a line that names it."""
        self._next: dict[str, float] = {}
        self._wrong: dict[str, float] = {}
        self._joined = self._behind = False
        self._seen = -math.inf
        self.delivery = delivery_of(self.app)
        self.now = claim.clock_of(self.delivery.store)
        try:
            self.schedule.update(entries_of(self.app))
            bootstep.check(self.delivery.store)
            self._warn_of_strangers()
        except (OptionError, SchemaError) as error:
            end_command(str(error))
            raise

    def _warn_of_strangers(self) -> None:
        """A task that isn't here may be another project's, whose workers know it; an option may be
        for them, too.
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
        """Take the turns that are due. Returns the seconds until there is something to do again."""
        begun = time.monotonic()
        try:
            now = self.now()
            if not self._joined or now < self._seen - BACK_SECONDS:
                self._join(now)
        except DriverError as error:
            logger.warning("beat waits for the store: %s", error)
            return AWAY_SECONDS
        self._seen = now
        for name, entry in self.schedule.items():
            if self._next[name] <= now:
                self._take(entry, now)
        if self._behind:
            self._forward()
        soonest = min(self._next.values(), default=math.inf) - now - (time.monotonic() - begun)
        return min(
            max(soonest, 0.001), AWAY_SECONDS if self._behind else math.inf, self.max_interval
        )

    def _join(self, now: float) -> None:
        """Begin, or begin anew after the clock was set back: what is next due would never come."""
        states = schedules.sync_entries(
            self.delivery.store,
            {name: descriptions.as_text(entry.schedule) for name, entry in self.schedule.items()},
            now,
        )
        for name, entry in self.schedule.items():
            self._plan(entry, states[name], now)
        self._joined = True

    def _take(self, entry: entries.Entry, now: float) -> None:
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
            wait = self._wrong[entry.name] = min(
                2 * self._wrong.get(entry.name, AGAIN_SECONDS / 2), LONGEST_WAIT_SECONDS
            )
            logger.exception(
                "entry %r could not be dispatched, it is tried again in %g s", entry.name, wait
            )
            self._next[entry.name] = now + wait
            self._behind = True  # it may have been committed, and not sent
            return
        self._wrong.pop(entry.name, None)
        for run in made:
            done = "dispatched" if run.state is None else "another job has the unique key of"
            logger.info(
                "entry %r, due %s: %s %s as %s", entry.name, run.tick, done, entry.task, run.job_id
            )
        if made and self.delivery.sharing(claim.connection_of(entry)) is None:
            self._behind = True

    def _plan(self, entry: entries.Entry, state: EntryState, now: float) -> None:
        """When the entry is next due, as far as this beat knows: others can only have made it
        later.
        """
        at = entry.ticks.after(state.done_until(now))
        self._next[entry.name] = math.inf if at is None else at

    def _forward(self) -> None:
        """Send what was committed and could not be sent. Every worker does that, too."""
        try:
            if outbox.connections(self.delivery.store):
                self.delivery.forward_all()
            self._behind = False
        # brokers that aren't ours have errors of their own
        except Exception as error:  # noqa: BLE001
            logger.warning("jobs wait in the outbox: %s", error)

    def sync(self) -> None:
        """Nothing is kept here."""

    @property
    def info(self) -> str:
        store = delivery_of(self.app).store
        return f"    . schedule -> {store.url.render_as_string(hide_password=True)}"
