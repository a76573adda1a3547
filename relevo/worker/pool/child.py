"""A child of the prefork pool: it takes a job from the pipe, or refuses it (see `prefork`)."""

from __future__ import annotations

import os
from typing import Any

from billiard import pool as billiard_pool

from relevo.execution import stop_flag

#: A child's answer for a job that it has taken and its parent has recalled.
REFUSED = "relevo: refused"


class Worker(billiard_pool.Worker):
    """A child. `slot` is its place in the memory `shared`; both are None in a spawned child."""

    slot: int | None = None
    shared: memoryview | None = None

    def after_fork(self) -> None:
        super().after_fork()
        if self.slot is not None:
            stop_flag.ignore_group_sigterm()

    def _make_child_methods(self, *args: Any, **options: Any) -> None:
        super()._make_child_methods(*args, **options)
        if self.slot is not None and self.shared is not None:
            self.wait_for_job: Any = self._refusing(self.wait_for_job, self.shared, self.slot)

    def _refusing(self, wait_for_job: Any, shared: memoryview, slot: int) -> Any:
        def wait() -> Any:
            request = wait_for_job()
            if not request:
                return request
            job, index = request[1][:2]
            shared[slot] = job + 1
            if job >= shared[0]:
                return request
            self.outq.put((billiard_pool.READY, (job, index, (False, REFUSED), self.inqW_fd)))
            return None

        return wait

    def _do_exit(self, pid: int, exitcode: int | None, exc: BaseException | None = None) -> None:
        """Exit at once.

        billiard tells the parent first, which then kills a process that is ending anyway, and
        sleeps 1 s.
        """
        if exitcode is None:
            exitcode = billiard_pool.EX_FAILURE if exc else billiard_pool.EX_OK
        try:
            if self.on_exit is not None:
                self.on_exit(pid, exitcode)
        finally:
            os._exit(exitcode)
