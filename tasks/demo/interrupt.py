"""Ctrl-C, SIGTERM and a closed terminal as a flag that is looked at between two steps.

A KeyboardInterrupt can come between the fork of the worker and the variable that knows its number,
and then nobody can stop it any more. A flag can't: each step ends, the next one doesn't begin, and
the worker is stopped on the way out.
"""

from __future__ import annotations

import signal
import threading
from typing import Any


class InterruptedDemoError(Exception):
    """The user wants to stop."""


class Interrupt:
    """Counts the wishes to stop: the second one is impatient."""

    def __init__(self) -> None:
        self.wishes = 0
        self._wished = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._wish)

    def check(self) -> None:
        if self.wishes:
            raise InterruptedDemoError

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the first wish."""
        self._wished.wait(seconds)

    def _wish(self, *_signal: Any) -> None:
        self.wishes += 1
        self._wished.set()
