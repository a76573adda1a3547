"""The server's time, read once a minute and carried on by this machine's steady clock.

Leases go by the server's time, so that two machines whose clocks differ agree on when a lease has
ended. A step of this machine's clock changes nothing. After a suspension of this machine, during
which the steady clock stands still, the server is asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# The server is asked this often, and when the two local clocks have drifted apart by this much.
CHECK_SECONDS, MAX_DRIFT_SECONDS = 60.0, 0.5


class ServerClock:
    """The time of a server in POSIX seconds; `ask` reads it there."""

    def __init__(self, ask: Callable[[], float]) -> None:
        self._ask = ask
        self._ahead = self._difference = 0.0
        self._asked = float("-inf")

    def __call__(self) -> float:
        steady = time.monotonic()
        drift = abs(time.time() - steady - self._difference)
        if steady - self._asked > CHECK_SECONDS or drift > MAX_DRIFT_SECONDS:
            self._check()
        return time.monotonic() + self._ahead

    def _check(self) -> None:
        before = time.monotonic()
        answer = self._ask()
        after = time.monotonic()
        self._ahead = answer - (before + after) / 2  # the server answered in between
        self._difference, self._asked = time.time() - after, after
