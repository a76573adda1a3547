"""Ctrl-C, SIGTERM and a closed terminal as a flag that is read between two steps.

A KeyboardInterrupt can come between the fork of the worker and the assignment of its process id,
and then the worker can't be stopped any more. With a flag the running step ends, the next one
doesn't begin, and the worker is stopped at the end.
"""

from __future__ import annotations

import signal
import threading
from typing import Any


class InterruptedDemoError(Exception):
    """The user wants to stop."""


class Interrupt:
    """Counts the requests to stop. After a second one the worker is not waited for."""

    def __init__(self) -> None:
        self.requests = 0
        self._requested = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._request)

    def check(self) -> None:
        if self.requests:
            raise InterruptedDemoError

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the first request."""
        self._requested.wait(seconds)

    def _request(self, *_signal: Any) -> None:
        self.requests += 1
        self._requested.set()
