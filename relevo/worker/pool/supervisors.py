"""The threads that watch over the children of the prefork pool.

The supervisor replaces the children that have ended. The timeout handler kills those that have run
for too long.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from billiard import pool as billiard_pool

# Seconds between two checks for attempts that have run for too long.
TIMEOUT_CHECK_SECONDS = 0.5


class WakeableThread:
    """A thread of the pool that waits instead of sleeping: `close` and `terminate` wake it."""

    def __init__(self, *args: Any) -> None:
        self._wake = threading.Event()
        super().__init__(*args)

    def close(self) -> None:
        super().close()  # type: ignore[misc]  # billiard's PoolThread
        self._wake.set()

    def terminate(self) -> None:
        super().terminate()  # type: ignore[misc]
        self._wake.set()


class Supervisor(WakeableThread, billiard_pool.Supervisor):
    """Replaces children that have ended. In the pool's first second it checks more often, so that
    a child that can't start is noticed.

    Its thread is the parent of the children it forks, and Linux kills them when the thread ends
    (Celery asks for that: PR_SET_PDEATHSIG). So the thread doesn't end: it sleeps until the process
    is over, and a stop doesn't wait for it. Before, a warm stop killed every job that ran in a
    child which had replaced another.
    """

    def __init__(self, *args: Any) -> None:
        self._over = threading.Event()
        super().__init__(*args)

    def stop(self, timeout: float | None = None) -> None:
        if self._was_started:
            self._over.wait(timeout)

    def body(self) -> None:
        pool, began = self.pool, time.monotonic()
        restarts = pool.restart_state
        pool.restart_state = billiard_pool.restart_state(10 * pool._processes, 1)  # noqa: SLF001
        try:
            while not self._wake.wait(0.1 if time.monotonic() - began < 1 else 0.8):
                if time.monotonic() - began >= 1:
                    pool.restart_state = restarts
                pool._maintain_pool()  # noqa: SLF001
        except billiard_pool.RestartFreqExceeded:
            self._over.set()
            pool.close()
            pool.join()
            raise
        self._over.set()
        threading.Event().wait()


class TimeoutHandler(WakeableThread, billiard_pool.TimeoutHandler):
    """Ends attempts that have run for too long."""

    def body(self) -> None:
        with contextlib.suppress(billiard_pool.CoroStop):
            for _ in self.handle_timeouts():
                if self._wake.wait(TIMEOUT_CHECK_SECONDS):
                    break

    def _trywaitkill(self, worker: Any) -> None:
        """Kill a child.

        The thread that replaces children may have closed the descriptor that this one waits for:
        the child has ended then. billiard lets that error, like any in its threads, end the worker.
        """
        with contextlib.suppress(ValueError, TypeError):
            super()._trywaitkill(worker)
