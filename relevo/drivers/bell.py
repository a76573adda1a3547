"""What tells an idle worker that there may be something to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection


class Bell(ABC):
    """What an idle consumer listens to. `hear` may say yes too often (a look is cheap), but never misses for long."""

    #: The longest a consumer waits before it looks anyway, in seconds.
    interval: float
    #: Whether what was heard last may be mail; a bell that can tell saves the look into the mailboxes before a job.
    is_mail: bool = True

    def listen(self, room: bool, mailboxes: Collection[str] = ()) -> None:  # noqa: B027  most hear all the time
        """A wait begins; `room`: whether this consumer could take a job now; `mailboxes`: those that it empties."""

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when there may be something new, or None: the broker has no such thing."""
        return None

    @abstractmethod
    def hear(self) -> bool:
        """Whether there may be something new since the last call. Doesn't block."""

    def decline(self) -> None:  # noqa: B027  most wake everybody
        """What was heard can't be answered here, for want of room: let another consumer hear it."""

    def close(self) -> None:  # noqa: B027  most have nothing to close
        """Stop listening."""
