"""A beat inside a worker, `celery worker -B`: a process beside those of the pool.

A wrong entry ends the worker's start, as it ends that of `celery beat`. Otherwise the worker would
go on without its beat. The beat ends with the worker's main process, however that ends. A beat that
was left behind would go on with the entries of an old deploy, and nobody would stop it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from celery import platforms, signals

#: The scheduler whose entries are checked; another one has rules of its own.
SCHEDULER = "relevo.schedule.beat:Scheduler"


def register_signals() -> None:
    """Connect the handlers for workers with `-B`."""
    signals.celeryd_init.connect(_check, dispatch_uid="relevo.schedule.worker_beat.check")
    signals.beat_embedded_init.connect(
        _end_with_worker, dispatch_uid="relevo.schedule.worker_beat.end"
    )


def _check(instance: Any, options: Mapping[str, Any], **_signal: Any) -> None:
    app = instance.app
    if options.get("beat") and (options.get("scheduler") or app.conf.beat_scheduler) == SCHEDULER:
        # Imported here, because few workers have a beat.
        importlib.import_module("relevo.schedule.entry").entries_or_exit(app)


def _end_with_worker(**_signal: Any) -> None:
    platforms.set_pdeathsig("SIGKILL")  # safe at any moment: each claim is one transaction
