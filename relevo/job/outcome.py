r"""How an attempt ended, and what follows from it: decided here, and only here.

                      returned ------------------------------------------------> Completed
                      release(seconds) --- its deadline comes first? --yes-----> Failed
    attempt ended ---|                  \-- no ------------------------------> Released    (the attempt isn't burned)
                      skip(reason) ---------------------------------------------> Cancelled   (nothing was done)
                      fail(error) ---------------------------------------------> Failed
                      any other error --- tries, exceptions or time used up? --> Failed
                                       \-- no ------------------------------> Retry       (after the backoff)

`decide` is a pure function: the clock and the dice come in as numbers. A worker child applies it to what a job
raised; the worker's main process applies it to what no child can report, a timeout and a lost child.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from relevo.errors import DeadlineError
from relevo.job import backoff
from relevo.job.control_flow import CancelJob, FailJob, ReleaseJob
from relevo.job.options import Options
from relevo.job.payload import Baton

# With `retry_until` alone nothing counts attempts; a job that takes its process with it must not do
# so for hours.
MAX_LOST_CHILDREN = 3
# No text of a job's own has this one: a string's is in quotes.
CANCELLED_PREFIX = "<cancelled> "
#: The reason of a job that a person or a program has cancelled.
CANCELLED_BY_HAND = "cancelled"


@dataclass(frozen=True, slots=True)
class Completed:
    """The job is done."""

    result: Any


@dataclass(frozen=True, slots=True)
class Released:
    """The job goes back and runs again after `seconds`, as if this attempt had not been."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt went wrong and there is another one after `seconds`."""

    seconds: float
    error: BaseException


@dataclass(frozen=True, slots=True)
class Failed:
    """The job has failed for good: its hook runs and it is recorded."""

    error: BaseException


@dataclass(frozen=True, slots=True, repr=False)
class Cancelled:
    """The job has ended without being run: a middleware skipped it, or what it was about is gone.

    For Celery it is the job's result, as which it is None: what follows the job runs. The worker's
    main process, which gets only the text of a result, knows it by this one's.
    """

    reason: str

    def __json__(self) -> None:
        return None

    def __repr__(self) -> str:
        return f"{CANCELLED_PREFIX}{self.reason}"


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
    """What follows from an attempt that returned `result` or ended in `error`."""
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
    """The reason of a job that was cancelled, from the text of its result; None if it wasn't."""
    said = isinstance(text, str) and text.startswith(CANCELLED_PREFIX)
    return text.removeprefix(CANCELLED_PREFIX) if said else None


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
    # - the callable is the user's; the job must end in a known state
    except Exception as broken:  # noqa: BLE001
        return Failed(broken)
    # What went wrong says more than "the deadline passed" would, later: so a retry that comes too
    # late fails now.
    return Retry(wait, error) if _in_time(now + wait, baton) else Failed(error)


def _used_up(error: BaseException, attempt: int, baton: Baton, options: Options) -> bool:
    timed_out = isinstance(error, (TimeLimitExceeded, SoftTimeLimitExceeded))
    return (
        # the task has a `failed` hook and nothing else of ours: its first error is its last
        not options.has_retry_policy
        or (options.tries is not None and attempt >= options.tries)
        or (options.max_exceptions is not None and baton.exceptions >= options.max_exceptions)
        or (options.fail_on_timeout and timed_out)
        or (options.has_no_limit and baton.lost >= MAX_LOST_CHILDREN)
    )


def _in_time(instant: float, baton: Baton) -> bool:
    return baton.deadline is None or instant < baton.deadline
