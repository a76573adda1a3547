"""A worker that goes home: after so many jobs, when nothing is left to do, or after a time (`celery
-A tasks work`).

It is asked where jobs are taken: how many more may be handed over (`left`), and, when nothing was
delivered, whether the work is done (`look`). A shift that is over ends as by TERM: what runs
finishes, what was not started goes back.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from relevo.drivers.contract import Driver
from relevo.transport.lease_keeper import Ledger

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Shift:
    """`most`: jobs to hand over (None: any number). `when_empty`: go when no job could be taken."""

    most: int | None = None
    when_empty: bool = False
    taken: int = 0
    #: Wakes whoever waits for a job, so that a stop is seen at once.
    wake: Callable[[], None] = lambda: None
    _timer: threading.Timer | None = field(default=None, init=False)

    def left(self) -> int:
        """How many more jobs may be handed over."""
        return sys.maxsize if self.most is None else self.most - self.taken

    def look(self, driver: Driver, ledger: Ledger, queues: Iterable[str]) -> None:
        """Nothing was delivered, and nothing runs: is the work done?"""
        if self.left() <= 0 or (
            self.when_empty and not ledger.puts_back and is_empty(driver, queues)
        ):
            stop()

    def end_after(self, seconds: float) -> None:
        """Go home after so many seconds, whatever there is to do, also while the broker is away."""
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def is_over(self) -> None:
        """Its worker has ended. What this process does from now on is not ended by it."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        logger.info("its time is over: what runs finishes, nothing more is taken")
        stop()
        self.wake()


#: The shift of this process, if it is a worker that has one.
current: Shift | None = None


def left() -> int:
    """How many more jobs this process may take."""
    return sys.maxsize if current is None else current.left()


def took() -> None:
    """A job was handed over."""
    if current is not None:
        current.taken += 1


def is_empty(driver: Driver, queues: Iterable[str]) -> bool:
    """Whether these queues have no job that could be taken now: what is delayed or paused can't be."""
    paused = driver.paused()
    return not any(driver.sizes(queue).pending for queue in queues if queue not in paused)


def stop() -> None:
    """End this worker as TERM does."""
    # only a worker has it, and there it is imported already
    from celery.worker import state  # noqa: PLC0415

    state.should_stop = 0


def stop_asked() -> bool:
    """Whether this process is a Celery worker that was told to stop (by a signal or by remote
    control).
    """
    state = sys.modules.get("celery.worker.state")
    return state is not None and (_asked(state.should_stop) or _asked(state.should_terminate))


def _asked(code: Any) -> bool:
    return code is not None and code is not False  # it is an exit code: 0 means yes
