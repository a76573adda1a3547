"""The verbs of the Redis driver that look, and the one that takes what it sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import uuid4

from relevo.drivers import validation
from relevo.drivers.contract import Driver, HeldJob, JobView, Sizes, State
from relevo.drivers.redis import replies
from relevo.drivers.redis.keys import Keys
from relevo.drivers.redis.scripts import number

# How many jobs one script call rescues, finds, deletes or clears: about 10 ms of Redis's time.
PORTION = 1000
# How many values `peek.lua` answers per job.
_SHOWN = 9


class Looking(Driver):
    """A part of the driver; each verb is a script."""

    keys: Keys
    _run: Callable[..., Any]

    def queues(self) -> list[str]:
        return sorted(name.decode() for name in self._run("queues"))

    def sizes(self, queue: str) -> Sizes:
        validation.queues([queue])
        pending, delayed, reserved, oldest = self._run("sizes", queue, *self.keys.kombu(queue))
        return Sizes(
            pending, delayed, reserved, max(0.0, self.now() - float(oldest)) if oldest else None
        )

    def peek(self, queue: str, state: State, limit: int = 50) -> list[JobView]:
        validation.queues([queue])
        validation.count("limit", limit)
        answer = self._run("peek", queue, state.value, limit)
        return [
            replies.job_view(queue, state, answer[at : at + _SHOWN])
            for at in range(0, len(answer), _SHOWN)
        ]

    def find(self, ids: Iterable[str]) -> list[JobView]:
        wanted = list(dict.fromkeys(ids))
        validation.names("id", wanted)
        return [
            view
            for portion in _portions(wanted)
            for view in replies.job_views(self._run("find", *portion))
        ]

    def scan(self, after: str = "", limit: int = 500) -> tuple[list[JobView], str]:
        validation.cursor(after)
        validation.positive_count("limit", limit)
        following, *answer = self._run("scan", after or "0", limit)
        return replies.job_views(answer), "" if following == b"0" else following.decode()

    def hold(self, ids: Iterable[str], lease: float, by: str) -> list[HeldJob]:
        wanted, token = list(dict.fromkeys(ids)), f"{uuid4().hex[:20]}."
        validation.hold(wanted, lease, by)
        answers = (
            self._run("hold", number(lease), by, token, *portion) for portion in _portions(wanted)
        )
        return [job for answer in answers for job in replies.held(answer, token)]


def _portions(wanted: list[str]) -> Iterator[list[str]]:
    return (wanted[at : at + PORTION] for at in range(0, len(wanted), PORTION))
