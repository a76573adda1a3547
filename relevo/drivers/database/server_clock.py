"""The server's time without asking it each time: asked once a minute, carried on by this machine's
steady clock.

Leases are the server's, so that two machines whose clocks differ agree on when one has ended. A
step of this machine's clock changes nothing; when it was suspended (the steady clock stands still
meanwhile) the server is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# How often the server is asked, in seconds, and by how much the two local clocks may part before it
# is asked again.
CHECK, PARTED = 60.0, 0.5


class ServerClock:
    """The time of a server, which `ask` tells."""

    def __init__(self, ask: Callable[[], float]) -> None:
        self._ask = ask
        self._ahead = self._parting = 0.0
        self._asked = float("-inf")

    def __call__(self) -> float:
        steady = time.monotonic()
        if steady - self._asked > CHECK or abs(time.time() - steady - self._parting) > PARTED:
            self._check()
        return time.monotonic() + self._ahead

    def _check(self) -> None:
        before = time.monotonic()
        told = self._ask()
        after = time.monotonic()
        self._ahead = told - (before + after) / 2  # the answer was given somewhere in between
        self._parting, self._asked = time.time() - after, after
