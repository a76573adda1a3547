"""The words a job, or a middleware around it, ends its attempt with: raised where they are said,
decided in outcome.py.

They are no errors. `except Exception` around a call that says one of them catches it.
"""

from __future__ import annotations

from celery.exceptions import Ignore


class ReleaseJob(Exception):  # noqa: N818 - a word from the job to the engine, not an error
    """Raised by `release`: put the job back, to run after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class LimitExceeded(ReleaseJob):
    """Said by a limit that the job is over: nothing of it has run."""


class FailJob(Exception):  # noqa: N818 - a word from the job to the engine, not an error
    """Raised by `fail`: the job has failed for good, with `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class CancelJob(Exception):  # noqa: N818 - a word from a middleware to the engine, not an error
    """Raised by `skip`: the job ends here, without having run; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LimitSkipped(CancelJob):
    """Said by a limit whose jobs are skipped when they are over: nothing of it has run."""


class Replaced(Ignore):
    """Raised by Celery's `replace`: another job goes on in this one's place, under its id."""


class ContinuedRun(Replaced):
    """The same of a run of the schedule, whose end is that of the other job."""
