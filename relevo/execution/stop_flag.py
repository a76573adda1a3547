"""Whether this worker has been asked to stop: told to the jobs that run, wherever they do.

A job asks `self.should_stop`, in a process of the pool or in a thread. The main process writes one
byte that it shares with the processes it forks; a warm stop waits for them, so a long job that
looks can release itself and end it.

SIGTERM often goes to the whole process group: supervisor's `stopasgroup`, systemd, a container's
shell, a terminal. A process of the pool that gets it looks whether its main process was told to
stop; then it goes on with its job, which that waits for. Sent to it alone, the signal kills it.
"""

from __future__ import annotations

import mmap
import os
import signal
import time
from contextlib import suppress
from typing import Any

from celery.signals import worker_init, worker_shutting_down

from relevo.transport import work_limits

# So long (seconds) a process of the pool waits for its parent to have got the same signal.
SAME_SIGNAL = 0.5

WARM, COLD = 1, 2
_asked = mmap.mmap(-1, 1)


def register_signals() -> None:
    """Watch over the workers that this process becomes. May be called again."""
    worker_init.connect(_begin, dispatch_uid="relevo.execution.stop_flag.begin")
    worker_shutting_down.connect(
        request_stop, dispatch_uid="relevo.execution.stop_flag.request_stop"
    )


def request_stop(**_signal: Any) -> None:
    """Tell every job of this worker."""
    _asked[0] = max(_asked[0], WARM)


def request_cold_stop() -> None:
    """Tell every job, and that none is waited for."""
    _asked[0] = COLD


def is_requested() -> bool:
    """Whether the worker of this process, or of its parent, is to stop."""
    return _asked[0] != 0 or work_limits.stop_asked()


def is_cold() -> bool:
    """Whether it is to stop without waiting for any."""
    return _asked[0] == COLD


def _begin(**_signal: Any) -> None:
    # shared with the children of this worker, and not with those of the last one
    global _asked  # noqa: PLW0603
    _asked = mmap.mmap(-1, 1)


def effective_signal(signum: int | None) -> int:
    """The signal that does to a process of the pool what this one (None: SIGTERM) is meant to, also
    during a stop.
    """
    return (
        signal.SIGKILL
        if _asked[0] == WARM and signum in {None, signal.SIGTERM}
        else signum or signal.SIGTERM
    )


def terminate(process: Any) -> None:
    """End a process of the pool."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, effective_signal(None))


def ignore_group_sigterm() -> None:
    """In a process of the pool: let SIGTERM end it only if its parent hasn't got it, too."""
    own, before = os.getpid(), signal.getsignal(signal.SIGTERM)

    def on_term(signum: int, frame: Any) -> None:
        end = time.monotonic() + SAME_SIGNAL
        while (
            os.getpid() == own and time.monotonic() < end
        ):  # a process that a job has forked is none of the pool
            if _asked[0] == WARM:
                return
            if _asked[0] == COLD:
                break
            time.sleep(SAME_SIGNAL / 50)
        if callable(before):
            before(signum, frame)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    signal.signal(signal.SIGTERM, on_term)  # not ignored: what a job starts would ignore it, too
