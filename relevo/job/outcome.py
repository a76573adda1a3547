r"""What follows from the end of an attempt: decided here, and only here.

                   returned ----------------------------------------------> Completed
                   release(seconds) --- does the deadline come first? yes-> Failed
    attempt ended -|                 \- no -------------------------------> Released
                   skip(reason) ------------------------------------------> Cancelled
                   fail(error) -------------------------------------------> Failed
                   another error --- tries, exceptions, time used up? yes-> Failed
                                  \- no ----------------------------------> Retry after the backoff

A release doesn't count as an attempt. `decide` is pure: clock and dice come in as numbers. A pool
process calls it with the error that a job raised; the worker's main process calls it with errors
that no child can report: a timeout, a lost child.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from relevo.database.text import storable
from relevo.errors import DeadlineError
from relevo.job import backoff
from relevo.job.control_flow import CancelJob, FailJob, ReleaseJob
from relevo.job.options import Options
from relevo.job.payload import Baton

# With `retry_until` alone nothing counts attempts. A job that kills its process must not do so for
# hours, so it fails after this many lost processes.
MAX_LOST_CHILDREN = 3
# The text of a cancelled job's result begins so. No other result's does: the text of a string is in
# quotes.
CANCELLED_PREFIX = "<cancelled> "
#: The reason in history of a job that a person or a program has cancelled.
CANCELLED_BY_HAND = "cancelled"


@dataclass(frozen=True, slots=True)
class Completed:
    """The job is done."""

    result: Any


@dataclass(frozen=True, slots=True)
class Released:
    """The job runs again after `seconds`, and this attempt doesn't count."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt went wrong; the next one begins after `seconds`."""

    seconds: float
    error: BaseException


@dataclass(frozen=True, slots=True)
class Failed:
    """The job has failed for good: its hook runs, and it is recorded."""

    error: BaseException


@dataclass(frozen=True, slots=True, repr=False)
class Cancelled:
    """The job has ended without being run: a middleware skipped it, or its row is gone.

    Celery gets this object as the job's result, stores it as None, and runs what follows the job.
    The worker's main process gets only the text of a result, and knows a cancelled job by it.
    """

    reason: str

    def __json__(self) -> None:
        return None

    def __repr__(self) -> str:
        return storable(f"{CANCELLED_PREFIX}{self.reason}")


Outcome = Completed | Released | Retry | Failed | Cancelled


def decide(
    error: BaseException | None,
    result: Any,
    *,
    attempt: int,
    baton: Baton,
    options: Options,
    now: float,
    dice: float = 0.0,
) -> Outcome:
    """The outcome of an attempt that returned `result` or ended in `error`."""
    match error:
        case None:
            return Completed(result)
        case FailJob(error=final):
            return Failed(final)
        case ReleaseJob(seconds=seconds):
            return _released(seconds, baton, now)
        case CancelJob(reason=reason):
            return Cancelled(reason)
    if _used_up(error, attempt, baton.after_error(error), options):
        return Failed(error)
    return _retry(error, attempt, baton, options, now, dice)


def cancel_reason(text: Any) -> str | None:
    """The reason in the text of a cancelled job's result; None for any other text."""
    is_cancelled = isinstance(text, str) and text.startswith(CANCELLED_PREFIX)
    return text.removeprefix(CANCELLED_PREFIX) if is_cancelled else None


def _released(seconds: float, baton: Baton, now: float) -> Outcome:
    if _in_time(now + seconds, baton):
        return Released(seconds)
    return Failed(
        DeadlineError(
            f"The job was released for {seconds:g} s, but its deadline comes before that."
        )
    )


def _retry(
    error: BaseException, attempt: int, baton: Baton, options: Options, now: float, dice: float
) -> Outcome:
    try:
        wait = backoff.seconds(options.backoff, attempt, options.jitter, dice)
    except Exception as broken:  # noqa: BLE001  the task's own callable may raise anything
        return Failed(broken)
    # A retry after the deadline fails now: this error says more than "the deadline passed" would.
    return Retry(wait, error) if _in_time(now + wait, baton) else Failed(error)


def _used_up(error: BaseException, attempt: int, baton: Baton, options: Options) -> bool:
    timed_out = isinstance(error, (TimeLimitExceeded, SoftTimeLimitExceeded))
    return (
        # A task with a `failed` hook and no policy fails with its first error.
        not options.has_retry_policy
        or (options.tries is not None and attempt >= options.tries)
        or (options.max_exceptions is not None and baton.exceptions >= options.max_exceptions)
        or (options.fail_on_timeout and timed_out)
        or (options.has_no_limit and baton.lost >= MAX_LOST_CHILDREN)
    )


def _in_time(instant: float, baton: Baton) -> bool:
    return baton.deadline is None or instant < baton.deadline
