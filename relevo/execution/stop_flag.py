"""Whether this worker has been asked to stop: one byte, shared with its pool processes
(`WorkerContext.stop_byte`).

A job reads it as `self.should_stop`, in a pool process or a thread. A warm stop waits for running
jobs, so a long job that looks at the flag can release itself and end the wait.

SIGTERM often reaches the whole process group: from supervisor's `stopasgroup`, systemd, a
container's shell, a terminal. A pool process that gets it looks whether its main process got it
too. If so, it goes on with its job, for which the main process waits; if not, it ends.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Any

from celery.signals import worker_shutting_down

from relevo.transport import work_limits
from relevo.transport.context import current

# How long a pool process that gets SIGTERM waits for its main process to get it too.
SAME_SIGNAL_SECONDS = 0.5

WARM, COLD = 1, 2


def register_signals() -> None:
    """Set the flag when a worker of this process is told to stop. May be called again."""
    worker_shutting_down.connect(
        request_stop, dispatch_uid="relevo.execution.stop_flag.request_stop"
    )


def request_stop(**_signal: Any) -> None:
    """Ask all jobs of this worker to stop; the worker waits for them."""
    stop = current().stop_byte
    stop[0] = max(stop[0], WARM)


def request_cold_stop() -> None:
    """Ask all jobs of this worker to stop; the worker waits for none."""
    current().stop_byte[0] = COLD


def is_requested() -> bool:
    """Whether the worker of this process, or of its main process, is to stop."""
    return current().stop_byte[0] != 0 or work_limits.stop_asked()


def is_cold() -> bool:
    """Whether the worker is to stop without waiting for its jobs."""
    return current().stop_byte[0] == COLD


def effective_signal(signum: int | None) -> int:
    """The signal to send to a pool process instead of `signum` (None: SIGTERM).

    During a warm stop pool processes ignore SIGTERM, so it must be SIGKILL.
    """
    return (
        signal.SIGKILL
        if current().stop_byte[0] == WARM and signum in {None, signal.SIGTERM}
        else signum or signal.SIGTERM
    )


def terminate(process: Any) -> None:
    """End a pool process."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, effective_signal(None))


def ignore_group_sigterm() -> None:
    """In a pool process: ignore SIGTERM if the main process has got it too."""
    own, before = os.getpid(), signal.getsignal(signal.SIGTERM)

    def on_term(signum: int, frame: Any) -> None:
        end = time.monotonic() + SAME_SIGNAL_SECONDS
        # A process that a job has forked is not of the pool: it ends at once.
        while os.getpid() == own and time.monotonic() < end:
            if current().stop_byte[0] == WARM:
                return
            if current().stop_byte[0] == COLD:
                break
            time.sleep(SAME_SIGNAL_SECONDS / 50)
        if callable(before):
            before(signum, frame)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    # Not SIG_IGN: programs that a job starts would inherit it.
    signal.signal(signal.SIGTERM, on_term)
