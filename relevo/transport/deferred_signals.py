"""Where a signal handler's work may be done: only where the main thread waits and holds no lock.

Celery does its cold stop inside the signal handler. It joins the pool's threads there, and waits
for ever if one of them needs a lock that the interrupted code holds (SQLite's, the lease keeper's).
So the main thread marks where it waits: in the loop, and for the pool's end (`allow`). What a
signal asks for elsewhere is deferred until the main thread waits (`defer`). Before the loop has
begun there is no such place, and no thread to wait for: the work is done at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relevo.transport.waker import Waker

_waits = 0
_begun = False
_deferred: list[Callable[[], None]] = []


@contextmanager
def allow() -> Iterator[None]:
    """In the block the main thread waits, and deferred work is done. No effect in other threads."""
    global _waits, _begun  # noqa: PLW0603  one main thread, one place
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _begun = True
    # A signal that comes from here on is served at once, so none falls between this line and the
    # next one.
    _waits += 1
    try:
        if _deferred:
            _deferred.pop()()
        yield
    finally:
        _waits -= 1


def defer(action: Callable[[], None]) -> None:
    """Do `action` now, or as soon as the main thread waits. Called by a signal handler."""
    if _waits or not _begun:
        action()
    elif not _deferred:  # a second Ctrl-C asks for the same
        _deferred.append(action)


class InterruptibleTask:
    """Something done in another thread, while the main thread waits for its end and serves signals.

    A signal handler may have to wait for that end, too. It can't use `Thread.join` or `Event.wait`:
    the code that it interrupts may just have taken the lock in there, and goes on only after the
    handler. A pipe has no lock.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self._action, self._has_ended, self._end = action, False, Waker()
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="relevo-interruptible", daemon=True).start()

    def wait(self) -> None:
        """Wait for the end. Raises what the action has raised."""
        with allow(), self._end.rung_by_signals():
            while not self._has_ended:
                self._end.wait()
        # The wait has emptied the pipe, but the interrupted code may wait for it, too.
        self._end.ring()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._action()
        except BaseException as error:  # noqa: BLE001  raised in the waiting thread
            self._error = error
        self._has_ended = True
        self._end.ring()
