"""A worker's side of pauses by task and by tag: it reads them, and parks what may not start.

    task:emails.send    every job of this task
    tag:user:7          every job that was dispatched with this tag

A worker reads the suspensions before it reserves, at most every REFRESH_SECONDS: an app without any
pays nothing else. A job that may not start is reserved once and parked once, however long the pause
is, and nobody touches it until the pause ends.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256

from relevo.drivers import message_codec
from relevo.drivers.contract import Driver, Lease, ReservedJob
from relevo.drivers.validation import LONGEST_NAME
from relevo.errors import DriverUnavailableError

logger = logging.getLogger(__name__)

TASK, TAG = "task", "tag"
# How old a worker's knowledge may be, in seconds.
REFRESH_SECONDS = 0.5


def suspension_name(kind: str, name: str) -> str:
    """Return the broker's name for a pause of a task or a tag. A long one ends in a digest."""
    full = f"{kind}:{name}"
    if len(full) <= LONGEST_NAME:
        return full
    digest = sha256(full.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{full[: LONGEST_NAME - len(digest) - 1]}#{digest}"


class Suspensions:
    """The suspensions at one broker, as a worker last read them."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._ends: dict[str, float | None] = {}
        self._refreshed = float("-inf")

    def refresh(self) -> None:
        """Read them, if the last time was too long ago."""
        now = time.monotonic()
        if now - self._refreshed >= REFRESH_SECONDS:
            self._ends = self._driver.suspended()
            self._refreshed = now

    def park(self, jobs: list[ReservedJob]) -> list[ReservedJob]:
        """Park the jobs that may not start. Returns the others."""
        if not self._ends:
            return jobs
        free, parked = [], defaultdict(list)
        for job in jobs:
            suspension = self._longest_for(job)
            if suspension is None:
                free.append(job)
            else:
                parked[suspension].append(job.lease)
        for suspension, leases in parked.items():
            self._park(leases, suspension)
        return free

    def _longest_for(self, job: ReservedJob) -> str | None:
        """Return the suspension that keeps this job longest, or None."""
        found = [
            name for name in _names(message_codec.headers_of(job.payload)) if name in self._ends
        ]
        return max(found, key=lambda name: self._ends[name] or float("inf"), default=None)

    def _park(self, leases: Sequence[Lease], suspension: str) -> None:
        try:
            self._driver.park(leases, suspension)
        except DriverUnavailableError as error:  # their leases end, with the same effect
            logger.warning(
                "%d jobs could not be parked and wait for their leases to end: %s",
                len(leases),
                error,
            )


def _names(headers: dict[str, object]) -> Iterator[str]:
    """Yield the names of the suspensions that would hold a job with these headers."""
    yield suspension_name(TASK, str(headers.get("task")))
    ours = headers.get(message_codec.HEADER)
    tags = ours.get("tags") if isinstance(ours, dict) else None
    if isinstance(tags, Collection) and not isinstance(tags, str):
        yield from (suspension_name(TAG, tag) for tag in tags if isinstance(tag, str))
