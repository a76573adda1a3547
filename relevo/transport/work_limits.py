"""Work limits: when a worker stops by itself (`celery -A tasks work`).

A worker may stop after a number of jobs, when its queues are empty, or after a time. The fetcher
asks how many more jobs it may hand over (`left`). The transport asks, when nothing was delivered,
whether the work is done (`check_done`). The worker then stops as after SIGTERM: running jobs
finish, reserved jobs are released.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from relevo.drivers.contract import Driver
from relevo.transport.lease_keeper import LeaseKeeper

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class WorkLimits:
    """The limits of one worker. The defaults limit nothing.

    `most`: jobs to hand over, None for any number. `when_empty`: stop when no job can be taken.
    """

    most: int | None = None
    when_empty: bool = False
    taken: int = 0
    _timer: threading.Timer | None = field(default=None, init=False)

    @property
    def are_set(self) -> bool:
        """Whether this worker stops by itself."""
        return self.most is not None or self.when_empty or self._timer is not None

    def left(self) -> int:
        """Return how many more jobs may be handed over."""
        return sys.maxsize if self.most is None else self.most - self.taken

    def count(self) -> None:
        """Count a job that was handed over."""
        self.taken += 1

    def check_done(
        self,
        driver: Driver,
        keeper: LeaseKeeper,
        queues: Iterable[str],
        is_settled: Callable[[LeaseKeeper], bool],
    ) -> None:
        """Stop the worker if its work is done. Called when no job was delivered and none runs.

        `is_settled`: whether nothing follows any more from the jobs that have ended.
        """
        if self.left() <= 0 or (
            self.when_empty
            and not keeper.has_pending_releases
            and is_settled(keeper)
            and is_empty(driver, queues)
        ):
            stop()

    def stop_after(self, seconds: float, wake: Callable[[], None]) -> None:
        """Stop the worker after this time, even while the broker is away.

        `wake` ends the wait for jobs, so that the worker sees the stop at once.
        """
        self._timer = threading.Timer(seconds, _stop_in_time, (wake,))
        self._timer.daemon = True
        self._timer.start()

    def cancel_timer(self) -> None:
        """The worker has ended: don't stop what this process does next."""
        if self._timer is not None:
            self._timer.cancel()


def _stop_in_time(wake: Callable[[], None]) -> None:
    logger.info("time is up: running jobs finish, no more are taken")
    stop()
    wake()


def is_empty(driver: Driver, queues: Iterable[str]) -> bool:
    """Whether no job of these queues can be taken now: what is delayed or paused can't."""
    paused = driver.paused()
    return not any(driver.sizes(queue).pending for queue in queues if queue not in paused)


def stop() -> None:
    """Stop this worker as SIGTERM does."""
    # only a worker has it, and there it is imported already
    from celery.worker import state  # noqa: PLC0415

    state.should_stop = 0


def stop_asked() -> bool:
    """Whether this process is a Celery worker that was told to stop, in whatever way."""
    state = sys.modules.get("celery.worker.state")
    return state is not None and (_asked(state.should_stop) or _asked(state.should_terminate))


def _asked(code: Any) -> bool:
    return code is not None and code is not False  # it is an exit code: 0 means yes
