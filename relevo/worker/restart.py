"""A worker's restart: it starts again, with the code that is there now, in the same process.

    request (`celery -A tasks restart`)
      -> the worker stops as after SIGTERM: takes nothing more, finishes what runs, acks, releases
      -> at the very end of the process: exec of the command line that it was started with

The process keeps its number, its parent and its output. So supervisor, systemd, a Procfile runner
and a container never see it end, and a worker started by hand comes back as well. (Laravel's worker
merely ends and needs a supervisor to start it again; foreman and honcho end every program when one
ends.) If the new code can't be started, the process ends with its error, as at any start.

Celery does the same for SIGHUP. But it execs before what was registered earlier with `atexit`, ours
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

from relevo.transport import context, work_limits

logger = logging.getLogger(__name__)

#: Identifies this run of the program: a restart changes it, the process's number stays.
GENERATION = uuid.uuid4().hex


def register_restart(**_signal: Any) -> None:
    """A worker is being made: prepare its restart.

    `atexit` calls in reverse order, so what is registered here comes last: all jobs are released by
    then.
    """
    process = context.current()
    if process.can_restart or click.get_current_context(silent=True) is None:
        return  # a worker inside another program, which must not be started again
    process.can_restart = True
    atexit.register(_restart)
    signals.worker_shutting_down.connect(_withdraw, dispatch_uid="relevo.worker.restart")


def request() -> bool:
    """Stop this worker, to start it again. Returns whether it will start again.

    A worker with work limits, which ends by itself, doesn't.
    """
    worker = context.current()
    worker.restart_requested = worker.can_restart and not worker.work_limits.are_set
    work_limits.stop()
    worker.wake()
    return worker.restart_requested


def _withdraw(**_signal: Any) -> None:
    """TERM, QUIT or Ctrl-C: the worker is to end, not to start again."""
    context.current().restart_requested = False


def _restart() -> None:
    if not context.current().restart_requested:
        return
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        # the same program, without a shell
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"the worker could not be restarted: {error}\n")
