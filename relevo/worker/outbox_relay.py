"""The relay: a thread of each worker's main process that puts the outbox's jobs into brokers."""

from __future__ import annotations

import logging
import threading

from relevo.dispatch.delivery import Delivery
from relevo.errors import DriverError

logger = logging.getLogger(__name__)

# Seconds between two looks for what other processes left in the outbox.
EVERY = 2.0
# Seconds until the next look when a broker was away.
AWAY = 5.0
# Seconds that the end of the worker waits for jobs that are being sent.
PATIENCE = 5.0


class Relay(threading.Thread):
    """Forwards the outbox, as long as its process is a worker's main process."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(name="relevo-relay", daemon=True)
        self.delivery = delivery
        self._woken, self._stopping = threading.Event(), False
        # How often it was woken, and how many of these calls it has answered.
        self._calls = self._answered = 0
        self.start()

    def wake(self) -> None:
        """Look at once: there may be something new."""
        self._calls += 1
        self._woken.set()

    @property
    def is_done(self) -> bool:
        """Whether it has looked since the last `wake`. What a broker didn't take stays behind."""
        return self._answered >= self._calls

    def stop(self) -> None:
        """Forward once more, then end. The rest is for the next worker."""
        self._stopping = True
        self._woken.set()
        self.join(PATIENCE)
        if not self.is_alive():
            self.forward()

    def run(self) -> None:
        """The thread: forward when woken, or every EVERY seconds."""
        while not self._stopping:
            self._woken.wait(EVERY)
            self._woken.clear()
            calls = self._calls
            if not self._stopping:
                is_sent, self._answered = self.forward(), calls
                if not is_sent:
                    self._woken.wait(AWAY)

    def forward(self) -> bool:
        """Forward what is in the outbox. Returns whether everything could be sent."""
        try:
            self.delivery.forward_all()
        except DriverError as error:
            logger.warning("the outbox waits: %s", error)
        except Exception:
            logger.exception("the outbox could not be forwarded")
        else:
            return True
        return False
