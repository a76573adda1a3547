"""A beat in a worker: `celery worker -B`. It is a process of its own, beside those of the pool.

A wrong entry ends the worker's start, as it ends that of `celery beat`: otherwise the worker would
go on without its beat. And the beat ends with the worker's main process, however that ended: nobody
would stop one that was left behind, and it would go on with the entries of an old deploy.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from celery import platforms, signals

#: The scheduler whose entries are looked at; another one has rules of its own.
SCHEDULER = "relevo.schedule.beat:Scheduler"


def register_signals() -> None:
    """For every worker with `-B`."""
    signals.celeryd_init.connect(_check, dispatch_uid="relevo.schedule.worker_beat.check")
    signals.beat_embedded_init.connect(
        _end_with_worker, dispatch_uid="relevo.schedule.worker_beat.end"
    )


def _check(instance: Any, options: Mapping[str, Any], **_signal: Any) -> None:
    app = instance.app
    if options.get("beat") and (options.get("scheduler") or app.conf.beat_scheduler) == SCHEDULER:
        importlib.import_module("relevo.schedule.entry").entries_or_exit(
            app
        )  # not sooner: few workers have a beat


def _end_with_worker(**_signal: Any) -> None:
    platforms.set_pdeathsig("SIGKILL")  # at any moment: a turn is one transaction
