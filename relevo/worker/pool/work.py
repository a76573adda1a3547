"""A job that was given to the pool: what is to be called, and who hears of its turns.

It has billiard's words (`ready`, `accepted`, `terminate`, `worker_pids`) for Celery, which asks for
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.utils.log import get_logger

from relevo.worker.pool.child import Call

logger = get_logger(__name__)


class Work:
    """A job that was given to the pool, with billiard's words for those whom Celery asks."""

    __slots__ = (
        "__weakref__",
        "announced",
        "hard",
        "is_accepted",
        "is_over",
        "number",
        "on_accepted",
        "on_ended",
        "on_failed",
        "on_timeout",
        "pid",
        "since",
        "soft",
        "soft_told",
        "target",
        "terminated",
        "what",
    )

    def __init__(self, target: Callable[..., Any], what: tuple[Any, Any]) -> None:
        self.number, self.target, self.what = 0, target, what
        self.on_ended: Callable[..., Any] | None = None
        self.on_failed: Callable[..., Any] | None = None
        self.on_accepted: Callable[..., Any] | None = None
        self.on_timeout: Callable[..., Any] | None = None
        self.soft: float | None = None
        self.hard: float | None = None
        self.announced = self.is_accepted = self.is_over = self.soft_told = False
        self.pid: int | None = None
        self.since = 0.0
        self.terminated: int | None = None

    def ready(self) -> bool:
        return self.is_over

    def accepted(self) -> bool:
        return self.is_accepted

    def terminate(self, signum: int) -> None:
        self.terminated = signum

    def worker_pids(self) -> list[int]:
        return [self.pid] if self.pid else []

    @property
    def owner(self) -> Any:
        """Whose job this is: the object that hears of its end."""
        return getattr(self.on_ended, "__self__", None)

    def call(self) -> Call:
        args, kwargs = self.what
        return Call(self.number, self.target, args, kwargs, self.soft, self.hard, self.announced)

    def accept(self, pid: int, since: float) -> None:
        if not self.is_accepted:
            self.is_accepted, self.pid, self.since = True, pid, since
            call_back(self.on_accepted, pid, since)

    def end(self, is_done: bool, value: Any) -> None:
        self.is_over = True
        call_back(self.on_ended if is_done else self.on_failed, value)


def call_back(callback: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> None:
    """Call a callback, if there is one. What it raises decides nothing about its job."""
    if callback is None:
        return
    try:
        callback(*args, **kwargs)
    except Exception:
        logger.exception("what follows from a job in the pool failed")


def info_of(error: Exception) -> ExceptionInfo:
    """An error as billiard tells of it."""
    try:
        raise error
    except type(error):
        return ExceptionInfo()
