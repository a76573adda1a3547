"""Wakes idle workers: a blocking pop on a connection of its own, which the consumer polls.

`put` pushes one token for each job into the queue's `bell` list, and a pop takes one: one job wakes
one worker, however many are idle. A worker that has no room by then passes the token on
(`decline`). A token that is lost with its worker or its connection costs time but no job: every
worker looks after an `interval`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from redis import ConnectionPool, Redis
from redis.exceptions import RedisError

from relevo.drivers.contract import Subscription
from relevo.drivers.redis.keys import Keys

# The longest pop. If its answer is late by more than this, the connection is closed as half-open.
POP_SECONDS, MAX_LATE_SECONDS = 1, 5.0
# The longest wait of an idle consumer: it finds a plain Celery client's message within a second.
MAX_INTERVAL_SECONDS = 0.9


class RedisSubscription(Subscription):
    """Waits for tokens of `queues`, while there is room for jobs, and of its consumer's mailboxes.

    `until_due`: seconds until the next job comes due by itself.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        keys: Keys,
        queues: Sequence[str],
        until_due: Callable[[], float],
    ) -> None:
        self._pool, self._keys, self._queues, self._until_due = pool, keys, list(queues), until_due
        self._client = Redis(connection_pool=pool)
        self._connection: Any = None
        self._number = 0
        self._popped: set[str] = set()
        self._popped_at = 0.0
        self._token: str | None = None

    @property
    def interval(self) -> float:  # type: ignore[override]  # a plain attribute in the contract
        """Seconds until the next delayed job or lease comes due, MAX_INTERVAL_SECONDS at most."""
        return max(0.001, min(MAX_INTERVAL_SECONDS, self._until_due()))

    def listen(self, room: bool, mailboxes: Collection[str] = ()) -> None:
        """Ask for a token: of the queues only while there is `room`."""
        queue_lists = {self._keys.named("bell", queue) for queue in self._queues} if room else set()
        wanted = queue_lists | {self._keys.named("ring", mailbox) for mailbox in mailboxes}
        if self._popped and not wanted <= self._popped:
            self._end_pop()
        if wanted and not self._popped:
            with self._closed_on_error():
                self._open()
                # Reversed: the lists of mailboxes ("ring") come before those of queues ("bell").
                self._connection.send_command("BLPOP", *sorted(wanted, reverse=True), POP_SECONDS)
                self._popped, self._popped_at = wanted, time.monotonic()

    def _open(self) -> None:
        if self._connection is None:
            self._connection = self._pool.get_connection()
            self._connection.send_command("CLIENT", "ID")
            self._number = self._connection.read_response()

    def _end_pop(self) -> None:
        """End a pop that waits for mail alone: there is room again, so listen for jobs, too."""
        with self._closed_on_error():
            self._client.client_unblock(self._number)
            self._take_answer()
            if self._token:  # mail came just then: pop its token again
                self._client.rpush(self._token, "1")

    def fileno(self) -> int | None:
        socket = getattr(self._connection, "_sock", None)
        return socket.fileno() if socket is not None and self._popped else None

    def poll(self) -> bool:
        """Read the answer if it has come. Always True: after a silent interval a look is due."""
        self._token = None
        if self._popped:
            with self._closed_on_error():
                if self._connection.can_read(timeout=0):
                    self._take_answer()
                elif time.monotonic() - self._popped_at > POP_SECONDS + MAX_LATE_SECONDS:
                    self.close()
        self.is_mail = self._token is None or not self._is_for_jobs(self._token)
        return True

    def _take_answer(self) -> None:
        answer = self._connection.read_response()
        self._popped = set()
        self._token = answer[0].decode() if answer else None

    def decline(self) -> None:
        """Return the last token, for another worker."""
        token, self._token = self._token, None
        if token and self._is_for_jobs(token):
            with contextlib.suppress(RedisError, OSError):
                self._client.rpush(token, "1")

    def _is_for_jobs(self, token: str) -> bool:
        return token.startswith(self._keys.named("bell", ""))

    def close(self) -> None:
        connection, self._connection, self._popped = self._connection, None, set()
        if connection is not None:
            with contextlib.suppress(RedisError, OSError):
                connection.disconnect()
            with contextlib.suppress(RedisError, OSError):
                self._pool.release(connection)

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError):
            self.close()
