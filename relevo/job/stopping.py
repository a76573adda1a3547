"""Whether this worker has been asked to stop: told to the jobs that run, wherever they do.

A job asks `self.should_stop`, in a process of the pool or in a thread. The main process writes one byte that it shares
with the processes it forks; a warm stop waits for them, so a long job that looks can release itself and end it.
"""

from __future__ import annotations

import mmap
from typing import Any

from celery.signals import worker_init, worker_shutting_down

from relevo.drivers import shift

_asked = mmap.mmap(-1, 1)


def install() -> None:
    """Watch over the workers that this process becomes. May be called again."""
    worker_init.connect(_begin, dispatch_uid="relevo.job.stopping.begin")
    worker_shutting_down.connect(ask, dispatch_uid="relevo.job.stopping.ask")


def ask(**_signal: Any) -> None:
    """Tell every job of this worker."""
    _asked[0] = 1


def asked() -> bool:
    """Whether the worker of this process, or of its parent, is to stop."""
    return _asked[0] == 1 or shift.stop_asked()


def _begin(**_signal: Any) -> None:
    global _asked  # noqa: PLW0603  shared with the children of this worker, and not with those of the last one
    _asked = mmap.mmap(-1, 1)
