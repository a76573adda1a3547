"""Pauses of queues, tasks and tags, for the command line and the dashboard.

No worker reserves jobs from a paused queue. A job of a paused task or tag is reserved once and then
parked (relevo/transport/suspensions.py).
"""

from __future__ import annotations

from typing import Any

from relevo.drivers.contract import Driver
from relevo.errors import OptionError, did_you_mean
from relevo.transport import suspensions

QUEUE = "queue"
KINDS = (QUEUE, suspensions.TASK, suspensions.TAG)
# The longest name of a queue or task, in characters.
LONGEST_NAME = 255


def check(app: Any, kind: str, name: str) -> None:
    """Raise OptionError for a kind or name that can't be paused, also for an unknown task: that
    pause would stop nothing.
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
    """Pause until an instant (POSIX seconds), or, with None, until the pause is lifted."""
    if kind == QUEUE:
        driver.pause(name, until)
    else:
        driver.suspend(suspensions.suspension_name(kind, name), until)


def lift(driver: Driver, kind: str, name: str) -> None:
    """End a pause. The jobs that it parked are due at once."""
    if kind == QUEUE:
        driver.resume(name)
    else:
        driver.lift(suspensions.suspension_name(kind, name))
