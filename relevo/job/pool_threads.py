"""The threads of the prefork pool: billiard's, which sleep up to a second between two looks, made to wait instead."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from billiard import pool as billiard_pool

# Seconds between two looks for attempts that have run for too long.
TIMEOUT_CHECK = 0.5


class _Woken:
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


class Supervisor(_Woken, billiard_pool.Supervisor):
    """Replaces children that have ended: often in the pool's first second, when one that can't start is noticed."""

    def body(self) -> None:
        pool, began = self.pool, time.monotonic()
        restarts = pool.restart_state
        pool.restart_state = billiard_pool.restart_state(10 * pool._processes, 1)  # noqa: SLF001
        try:
            while not self._wake.wait(0.1 if time.monotonic() - began < 1 else 0.8):
                if time.monotonic() - began >= 1:
                    pool.restart_state = restarts
                pool._maintain_pool()  # noqa: SLF001
                pool.give_back_the_late()
        except billiard_pool.RestartFreqExceeded:
            pool.close()
            pool.join()
            raise


class TimeoutHandler(_Woken, billiard_pool.TimeoutHandler):
    """Ends attempts that have run for too long."""

    def body(self) -> None:
        with contextlib.suppress(billiard_pool.CoroStop):
            for _ in self.handle_timeouts():
                if self._wake.wait(TIMEOUT_CHECK):
                    break
