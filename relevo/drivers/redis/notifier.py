"""What an idle worker listens to: a blocking pop on a connection of its own, watched by the
consumer's poll.

`put` leaves a token per job; a pop takes one, so one job wakes one worker, however many are idle.
Where a token was taken by a worker that has no room by then, it is passed on (`decline`). A token
that is lost with its worker or its connection costs time, never a job: everybody looks now and then
(`interval`).
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

# Seconds: the longest pop, and how long its answer may be late before the connection is given up as
# half-open.
POP, LATE = 1, 5.0
# The longest an idle consumer waits before it looks: a plain Celery client's message is to be found
# within a second.
LOOK = 0.9


class RedisSubscription(Subscription):
    """Hears the tokens of `queues` (while told that there is room for jobs) and of its consumer's
    mailboxes.
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
        self._asked: set[str] = set()
        self._asked_at = 0.0
        self._token: str | None = None

    @property
    def interval(self) -> float:  # type: ignore[override]  # it depends on what comes due next
        """Until the next delayed job or lease comes due, LOOK at most."""
        return max(0.001, min(LOOK, self._until_due()))

    def listen(self, room: bool, mailboxes: Collection[str] = ()) -> None:
        """Ask for a token: of the queues only while there is `room`."""
        bells = {self._keys.named("bell", queue) for queue in self._queues} if room else set()
        wanted = bells | {self._keys.named("ring", mailbox) for mailbox in mailboxes}
        if self._asked and not wanted <= self._asked:
            self._ask_no_more()
        if wanted and not self._asked:
            with self._closed_on_error():
                self._open()
                self._connection.send_command(
                    "BLPOP", *sorted(wanted, reverse=True), POP
                )  # rings before bells
                self._asked, self._asked_at = wanted, time.monotonic()

    def _open(self) -> None:
        if self._connection is None:
            self._connection = self._pool.get_connection()
            self._connection.send_command("CLIENT", "ID")
            self._number = self._connection.read_response()

    def _ask_no_more(self) -> None:
        """There is room again, but what was asked is for mail alone: end that question, so that
        jobs are heard, too.
        """
        with self._closed_on_error():
            self._client.client_unblock(self._number)
            self._take_answer()
            if self._token:  # mail came just then: ask for it again
                self._client.rpush(self._token, "1")

    def fileno(self) -> int | None:
        socket = getattr(self._connection, "_sock", None)
        return socket.fileno() if socket is not None and self._asked else None

    def poll(self) -> bool:
        """Take the answer if it is there. Silence is news too: whoever has waited for an interval
        looks.
        """
        self._token = None
        if self._asked:
            with self._closed_on_error():
                if self._connection.can_read(timeout=0):
                    self._take_answer()
                elif time.monotonic() - self._asked_at > POP + LATE:
                    self.close()
        self.is_mail = self._token is None or not self._is_bell(self._token)
        return True

    def _take_answer(self) -> None:
        answer = self._connection.read_response()
        self._asked = set()
        self._token = answer[0].decode() if answer else None

    def decline(self) -> None:
        """The token that was heard can't be answered here: leave it to another worker."""
        token, self._token = self._token, None
        if token and self._is_bell(token):
            with contextlib.suppress(RedisError, OSError):
                self._client.rpush(token, "1")

    def _is_bell(self, token: str) -> bool:
        return token.startswith(self._keys.named("bell", ""))

    def close(self) -> None:
        connection, self._connection, self._asked = self._connection, None, set()
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
