"""Where a signal's work may be done: only where the main thread waits, and holds nothing.

Celery does its cold stop inside the signal handler: it joins the pool's threads there, and waits
for ever when one of them needs a lock that the interrupted code holds (SQLite's turn, the
ledger's). So the main thread says where it waits, in the loop and for the pool's end, and what a
signal asks for elsewhere is done when it comes to wait. Before the loop has begun there is no such
place, and no thread to wait for: it is done at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relevo.transport.waker import Waker

_waits = 0
_begun = False
_asked: list[Callable[[], None]] = []


@contextmanager
def wait() -> Iterator[None]:
    """The main thread waits here. In any other thread this does nothing."""
    global _waits, _begun  # noqa: PLW0603  one main thread, one place
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _begun = True
    # a signal that comes from here on is served at once, so none falls between this and the next
    # line
    _waits += 1
    try:
        if _asked:
            _asked.pop()()
        yield
    finally:
        _waits -= 1


def run(action: Callable[[], None]) -> None:
    """Do `action` now, or when the main thread waits. Called by a signal handler."""
    if _waits or not _begun:
        action()
    elif not _asked:  # who presses a second time asks for the same
        _asked.append(action)


class Errand:
    """Something done in another thread, while the main one waits for its end and serves signals.

    A signal may have to wait for that end, too. `Thread.join` and `Event.wait` can't be used for
    it: what it interrupts may just have taken the lock in there, and goes on only when the signal
    has been served. A pipe has no lock.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        self._action, self._over, self._end = action, False, Waker()
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="relevo-errand", daemon=True).start()

    def wait(self) -> None:
        """Wait for the end. Raises what the action has raised."""
        with wait(), self._end.rung_by_signals():
            while not self._over:
                self._end.wait()
        # for whoever this one has interrupted: the wait has taken what was in the pipe
        self._end.ring()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._action()
        except BaseException as error:  # noqa: BLE001  it is the waiting thread's
            self._error = error
        self._over = True
        self._end.ring()
