"""Where a signal's work may be done: not in the middle of a step.

Celery does its cold stop inside the signal handler: it joins the pool's threads there, and waits for ever when one of
them needs a lock that the interrupted code holds (SQLite's turn, the ledger's). So that code says when it is in a step,
and what a signal asks for meanwhile is done right after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_depth = 0
_asked: list[Callable[[], None]] = []


@contextmanager
def step() -> Iterator[None]:
    """A step of the main thread, the one that signals interrupt; in any other thread this does nothing."""
    global _depth  # noqa: PLW0603  one main thread, one depth
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def run(action: Callable[[], None]) -> None:
    """Do `action` now, or right after the step that was interrupted. Called by a signal handler."""
    if not _depth:
        action()
    elif not _asked:  # who presses a second time asks for the same
        _asked.append(action)


def reached() -> None:
    """Between two steps: do what was asked for meanwhile."""
    if _asked and not _depth:
        _asked.pop()()
