"""Exceptions that end an attempt on purpose: release, fail, skip.

A job or a middleware raises them; `outcome.decide` turns them into an outcome. They are not errors,
but an `except Exception` around the call that raises one catches it.
"""

from __future__ import annotations

from celery.exceptions import Ignore


class ReleaseJob(Exception):  # noqa: N818 - control flow, not an error
    """Raised by `release`: the job runs again after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class LimitExceeded(ReleaseJob):
    """Raised by a limit that has no room for the job. Nothing of the job has run."""


class FailJob(Exception):  # noqa: N818 - control flow, not an error
    """Raised by `fail`: the job has failed for good, with `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class CancelJob(Exception):  # noqa: N818 - control flow, not an error
    """Raised by `skip`: the job ends without having run, for `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LimitSkipped(CancelJob):
    """Raised by a limit with `otherwise="skip"` that has no room. Nothing of the job has run."""


class Replaced(Ignore):
    """Raised by `replace`: another job takes the place of this one, under the same id."""


class ContinuedRun(Replaced):
    """`Replaced` in a run of the schedule: the run ends when the other job does."""
