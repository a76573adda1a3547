"""What an idle worker listens to: a blocking pop on a connection of its own, watched by the consumer's poll.

`put` leaves a token per job; a pop takes one, so one job wakes one worker, however many are idle. Where a token was
taken by a worker that has no room by then, it is passed on (`decline`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis import ConnectionPool, Redis
from redis.exceptions import RedisError

from relevo.drivers.contract import Bell
from relevo.drivers.redis.keys import Keys

# Seconds: the longest pop, and how long its answer may be late before the connection is given up as half-open.
POP, LATE = 1, 5.0


class RedisBell(Bell):
    """Hears tokens of `queues` (while told that there is room for jobs) and of the mailboxes opened by this process."""

    def __init__(
        self, client: Redis, keys: Keys, queues: Sequence[str], mailboxes: Callable[[], list[str]],
        next_due: Callable[[], float],
    ) -> None:  # fmt: skip
        self._client, self._keys, self._queues = client, keys, list(queues)
        self._mailboxes, self._next_due = mailboxes, next_due
        self._pool: ConnectionPool = client.connection_pool
        self._connection: Any = None
        self._asked_at: float | None = None
        self._token: str | None = None

    @property
    def interval(self) -> float:  # type: ignore[override]  # it depends on what comes due next
        """Until the next delayed job or lease comes due; a second at most, for what a plain Celery client pushes."""
        return max(0.001, min(1.0, self._next_due()))

    def listen(self, room: bool) -> None:
        """Ask for a token, unless asked already: of the queues only while there is `room`."""
        if self._asked_at is not None:
            return
        rings = [self._keys.named("ring", mailbox) for mailbox in self._mailboxes()]
        bells = [self._keys.named("bell", queue) for queue in self._queues] if room else []
        if not rings and not bells:
            return
        with contextlib.suppress(RedisError, OSError):
            if self._connection is None:
                self._connection = self._pool.get_connection()
            self._connection.send_command("BLPOP", *rings, *bells, POP)
            self._asked_at = time.monotonic()

    def fileno(self) -> int | None:
        socket = getattr(self._connection, "_sock", None)
        return socket.fileno() if socket is not None and self._asked_at is not None else None

    def hear(self) -> bool:
        """Take the answer if it is there. Silence is news too: whoever has waited for an interval looks."""
        if self._asked_at is None:
            return True
        try:
            if self._connection.can_read(timeout=0):
                answer = self._connection.read_response()
                self._asked_at = None
                self._token = self._decode(answer[0]) if answer else None
            elif time.monotonic() - self._asked_at > POP + LATE:
                self.close()
        except (RedisError, OSError):
            self.close()
        return True

    def decline(self) -> None:
        """The token that was heard can't be answered here: leave it to another worker."""
        token, self._token = self._token, None
        if token and token.startswith(self._keys.named("bell", "")):
            with contextlib.suppress(RedisError, OSError):
                self._client.rpush(token, "1")

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(RedisError, OSError):
                self._connection.disconnect()
            with contextlib.suppress(RedisError, OSError):
                self._pool.release(self._connection)
        self._connection, self._asked_at = None, None

    @staticmethod
    def _decode(key: bytes | str) -> str:
        return key.decode() if isinstance(key, bytes) else key
