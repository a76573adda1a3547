"""The relay: a thread of every worker's main process that puts into brokers what waits for them in
the outbox.
"""

from __future__ import annotations

import logging
import threading

from relevo.dispatch.delivery import Delivery
from relevo.errors import DriverError

logger = logging.getLogger(__name__)

# It looks at least so often for what others left, in seconds, and so long after a broker was away.
EVERY, AWAY = 2.0, 5.0
# Seconds that the end of the worker waits for what is being sent.
PATIENCE = 5.0


class Relay(threading.Thread):
    """Forwards the outbox as long as its process is a worker's main process."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(name="relevo-relay", daemon=True)
        self.delivery = delivery
        self._woken, self._stopping = threading.Event(), False
        self.start()

    def wake(self) -> None:
        """There may be something new."""
        self._woken.set()

    def stop(self) -> None:
        """No more. What is left is for the next worker."""
        self._stopping = True
        self._woken.set()
        self.join(PATIENCE)
        if not self.is_alive():
            self.turn()

    def run(self) -> None:
        while not self._stopping:
            self._woken.wait(EVERY)
            self._woken.clear()
            if not self._stopping and not self.turn():
                self._woken.wait(AWAY)

    def turn(self) -> bool:
        """Look once. Returns whether everything could be sent."""
        try:
            self.delivery.forward_all()
        except DriverError as error:
            logger.warning("the outbox waits: %s", error)
        except Exception:
            logger.exception("the outbox could not be forwarded")
        else:
            return True
        return False


_current: Relay | None = None


def start(delivery: Delivery) -> Relay:
    """Forward what waits, in this process, from now on."""
    global _current  # noqa: PLW0603  one a process
    stop()
    _current = Relay(delivery)
    return _current


def stop() -> None:
    """Forward no more."""
    global _current
    relay, _current = _current, None
    if relay is not None:
        relay.stop()
