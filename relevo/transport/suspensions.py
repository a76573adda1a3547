"""What a worker does about suspensions: it reads which there are, and parks what it reserved but
may not start.

    task:emails.send    every job of this task        tag:user:7    every job that was dispatched with this tag

A worker reads them before it reserves, at most every LOOK seconds: that is all that an app without
any pays. A job that may not start is taken once and parked once, whatever the length of the pause,
and nobody looks at it until it is over.
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
# How old what a worker knows may be, in seconds.
LOOK = 0.5


def of(kind: str, name: str) -> str:
    """What a pause of all jobs of a task, or with a tag, is called in the broker: a long name is
    cut, with a digest.
    """
    what = f"{kind}:{name}"
    if len(what) <= LONGEST_NAME:
        return what
    digest = sha256(what.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{what[: LONGEST_NAME - len(digest) - 1]}#{digest}"


class Suspensions:
    """The suspensions at one broker, as a worker last saw them."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._ends: dict[str, float | None] = {}
        self._looked = float("-inf")

    def look(self) -> None:
        """Read them, if that was too long ago."""
        now = time.monotonic()
        if now - self._looked >= LOOK:
            self._ends = self._driver.suspended()
            self._looked = now

    def park(self, jobs: list[ReservedJob]) -> list[ReservedJob]:
        """Park those that may not start. Returns the others."""
        if not self._ends:
            return jobs
        free, parked = [], defaultdict(list)
        for job in jobs:
            what = self._for(job)
            if what is None:
                free.append(job)
            else:
                parked[what].append(job.lease)
        for what, leases in parked.items():
            self._park(leases, what)
        return free

    def _for(self, job: ReservedJob) -> str | None:
        """The suspension that keeps this job longest."""
        mine = [
            what for what in _kinds(message_codec.headers_of(job.payload)) if what in self._ends
        ]
        return max(mine, key=lambda what: self._ends[what] or float("inf"), default=None)

    def _park(self, leases: Sequence[Lease], what: str) -> None:
        try:
            self._driver.park(leases, what)
        except DriverUnavailableError as error:  # their leases end, which comes to the same
            logger.warning(
                "%d jobs could not be parked and wait for their leases to end: %s",
                len(leases),
                error,
            )


def _kinds(headers: dict[str, object]) -> Iterator[str]:
    """What a job can be suspended as."""
    yield of(TASK, str(headers.get("task")))
    ours = headers.get(message_codec.HEADER)
    tags = ours.get("tags") if isinstance(ours, dict) else None
    if isinstance(tags, Collection) and not isinstance(tags, str):
        yield from (of(TAG, tag) for tag in tags if isinstance(tag, str))
