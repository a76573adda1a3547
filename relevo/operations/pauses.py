"""Pauses by queue, task or tag, for whoever asks: the command line and the dashboard.

From a paused queue no worker reserves; what is of a paused task or tag is reserved once and parked
(relevo/transport/suspensions.py).
"""

from __future__ import annotations

from typing import Any

from relevo.drivers.contract import Driver
from relevo.errors import OptionError, did_you_mean
from relevo.transport import suspensions

QUEUE = "queue"
KINDS = (QUEUE, suspensions.TASK, suspensions.TAG)
LONGEST_NAME = 255


def check(app: Any, kind: str, name: str) -> None:
    """Raise OptionError for what can't be paused; a task that there isn't among them: its pause
    would stop nothing.
    """
    if kind not in KINDS:
        raise OptionError(f"expected one of {', '.join(KINDS)}, got {kind[:60]!r}")
    longest = None if kind == suspensions.TAG else LONGEST_NAME
    if not name.strip() or len(name[:longest]) < len(name):
        size = f"of 1 to {longest} characters" if longest else "that is not empty"
        raise OptionError(f"expected the name of a {kind}, {size}, got {name[:60]!r}")
    if kind == suspensions.TASK:
        app.loader.import_default_modules()
        if name not in app.tasks:
            raise OptionError(f"no task named {name!r}{did_you_mean(name, app.tasks)}")


def add(driver: Driver, kind: str, name: str, until: float | None) -> None:
    """Let no worker start a job of it until an instant; None: until it is lifted."""
    if kind == QUEUE:
        driver.pause(name, until)
    else:
        driver.suspend(suspensions.of(kind, name), until)


def lift(driver: Driver, kind: str, name: str) -> None:
    """End a pause: the jobs that wait for it are due."""
    if kind == QUEUE:
        driver.resume(name)
    else:
        driver.lift(suspensions.of(kind, name))
