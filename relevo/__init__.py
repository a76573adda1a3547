"""Relevo: background jobs on Celery in which no job is lost and none runs twice by accident.

A project imports the names of `__all__`; everything else may move. A name is looked up at its first
use, so a process that wants one of them doesn't import Celery for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relevo.app import create_app
    from relevo.config import Settings
    from relevo.drivers import driver_for
    from relevo.errors import (
        DeadlineError,
        DiskError,
        DriverError,
        DriverUnavailableError,
        JobFailedError,
        OptionError,
        RelevoError,
        SettingsError,
    )
    from relevo.events import JobEvent, on
    from relevo.job.payload import Job
    from relevo.task import Task

__version__ = "0.1.0"

_HOMES = {
    "create_app": "app",
    "Settings": "config",
    "driver_for": "drivers",
    "Job": "job.payload",
    "JobEvent": "events",
    "on": "events",
    "Task": "task",
    "DeadlineError": "errors",
    "DiskError": "errors",
    "DriverError": "errors",
    "DriverUnavailableError": "errors",
    "JobFailedError": "errors",
    "OptionError": "errors",
    "RelevoError": "errors",
    "SettingsError": "errors",
}

__all__ = [
    "DeadlineError",
    "DiskError",
    "DriverError",
    "DriverUnavailableError",
    "Job",
    "JobEvent",
    "JobFailedError",
    "OptionError",
    "RelevoError",
    "Settings",
    "SettingsError",
    "Task",
    "create_app",
    "driver_for",
    "on",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
