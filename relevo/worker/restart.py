"""A worker starts anew, with the code that is there now (`celery -A tasks restart`), in the same
process.

    ask  -> the worker stops as by TERM: takes nothing more, finishes what runs, acks, gives back the rest, closes
         -> at the very end of the process: exec of the command line it was started with

The process keeps its number, its parent and its output. So supervisor, systemd, a Procfile runner
and a container never see it end, and a worker started by hand comes back just the same. (Merely
ending, as Laravel's does, needs somebody who starts it again; foreman and honcho end everything
when one program ends.) If the new code can't be started, the process ends with its error, as it
would at any start.

Celery does the same for SIGHUP, but execs before what was registered earlier with `atexit`, ours
included, and repeats `sys.argv`: for `python -m celery` that puts Celery's own folder on the path,
where its `app` hides the project's.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import uuid
from typing import Any

import click
from celery import signals

from relevo.transport import transport, work_limits

logger = logging.getLogger(__name__)

#: This life of the process: another one after a restart.
LIFE = uuid.uuid4().hex

_can = False
_asked = False


def prepare(**_signal: Any) -> None:
    """A worker is being made. What is registered first is done last: by then all that was held is
    given back.
    """
    global _can  # noqa: PLW0603  one process, one worker
    if _can or click.get_current_context(silent=True) is None:
        return  # a worker inside another program, which is not ours to start again
    _can = True
    atexit.register(_renew)
    signals.worker_shutting_down.connect(_overruled, dispatch_uid="relevo.worker.restart")


def ask() -> bool:
    """Stop this worker, and start it anew if it can be: not one with a shift, which ends anyway.
    Returns whether.
    """
    global _asked  # noqa: PLW0603
    _asked = _can and work_limits.current is None
    work_limits.stop()
    transport.worker_stops()
    return _asked


def _overruled(**_signal: Any) -> None:
    """TERM, QUIT or Ctrl-C: somebody wants it to end."""
    global _asked  # noqa: PLW0603
    _asked = False


def _renew() -> None:
    if not _asked:
        return
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        # the same program, without a shell
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"the worker could not be started anew: {error}\n")
