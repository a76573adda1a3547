"""Limits over all workers: no overlap, rates, and a breaker for errors.

    @app.task(name="events.process",
              middleware=[WithoutOverlapping(by="event_id"), RateLimited("events")])

A job that finds no room is released, which doesn't count as an attempt. Limits hold for jobs that a
worker takes from one of our brokers, where the limits live too (`relevo/limits`). A job that runs
inline, in a fake, or from a foreign broker passes. While the broker is away jobs wait; none fails
for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from relevo import clock
from relevo.errors import DriverError, DriverUnavailableError, OptionError, UndefinedLimitError
from relevo.job.control_flow import CancelJob, FailJob, LimitExceeded, LimitSkipped, ReleaseJob
from relevo.job.middleware import CallNext, Middleware, RunningJob
from relevo.limits.breakers import Breaker
from relevo.limits.contract import ERRORS, OVERLAP, RATE, Holder, key_of
from relevo.limits.named_rates import check_name
from relevo.middleware import limit_context
from relevo.middleware.limit_context import By, LimitContext

logger = logging.getLogger(__name__)

# How long a job is released for while the limits are away.
AWAY_SECONDS = 2.0
WAIT, SKIP = "wait", "skip"


class WithoutOverlapping(Middleware):
    """At most `at_most` jobs with the same `by` run at once, over all workers.

    `by`: the name of an argument, several names, or a callable that gets the arguments; None: all
    jobs of the task. `key`: tasks with the same key share the limit; without one each task has its
    own. `otherwise`: a job without room waits ("wait") or is skipped ("skip").
    """

    name = "without_overlapping"

    def __init__(
        self, by: By = None, *, at_most: int = 1, key: str | None = None, otherwise: str = WAIT
    ) -> None:
        if not isinstance(at_most, int) or isinstance(at_most, bool) or at_most < 1:
            raise OptionError(f"expected at_most to be a positive integer, got {at_most!r}")
        self.by, self.at_most, self.key, self.otherwise = (
            _checked_by(by, key),
            at_most,
            key,
            _one_of_two(otherwise),
        )

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:
        if job.permit is not None and job.permit == self.key_for(job):
            return call_next()  # the main process holds the permit, and releases it
        context = limit_context.context_of(job)
        if context is None:
            return call_next()
        if not job.app.tasks[job.task].acks_late:
            raise OptionError(
                f"task {job.task!r} acks early, so there is no lease to hold a permit under;"
                " it overlaps"
            )
        key = self.key_for(job)
        holder = Holder(job.lease or "", job.id, job.task)
        with limits_available(job):
            wait = context.limits.take(key, self.at_most, holder)
        if wait and self.otherwise == SKIP:
            raise LimitSkipped(f"{self.at_most} of {key} are running")
        if wait:
            raise LimitExceeded(_before_deadline(job, wait))
        try:
            return call_next()
        finally:
            release_permit(context, key, holder)

    def key_for(self, job: limit_context.JobIdentity) -> str:
        """The key of the permit that a job needs. Raises OptionError if it can't be made."""
        return key_of(OVERLAP, self.key or job.task, limit_context.by_value(self.by, job))


def release_permit(context: LimitContext, key: str, holder: Holder) -> None:
    """Release a permit and wake the next job. After an error the permit ends with its lease."""
    try:
        limit_context.wake(context.driver, context.limits.release(key, holder))
    except DriverError as error:
        logger.warning(
            "the permit of %s[%s] could not be released, it ends with its lease: %s",
            holder.task,
            holder.job_id,
            error,
        )


class RateLimited(Middleware):
    """No more jobs than the rate named `limit`, over all workers, for each value of `by`.

    `cost`: units of a job, a number or a callable that gets the arguments. The rate is the app's
    (`create_app(limits=…)`), unless it was set at run time (`limits rate`).
    """

    name = "rate_limited"

    def __init__(
        self,
        limit: str,
        by: By = None,
        *,
        cost: float | Callable[..., float] = 1,
        otherwise: str = WAIT,
    ) -> None:
        check_name(limit)
        if not callable(cost):
            _units(cost)
        self.limit, self.by, self.cost, self.otherwise = (
            limit,
            _checked_by(by, None),
            cost,
            _one_of_two(otherwise),
        )

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:
        context = limit_context.context_of(job)
        if context is None:
            return call_next()
        rate = limit_context.named_rates(job.app)[self.limit]
        cost = _units(self.cost(*job.args, **job.kwargs) if callable(self.cost) else self.cost)
        key = key_of(RATE, self.limit, limit_context.by_value(self.by, job))
        with limits_available(job):
            wait = context.limits.hit(key, rate, cost, job.id) if cost else 0.0
        if wait and self.otherwise == SKIP:
            raise LimitSkipped(f"{key} is over its rate")
        if wait:
            raise LimitExceeded(wait)
        try:
            return call_next()
        except (LimitExceeded, LimitSkipped):  # from a later limit: the job has not run
            if cost:
                with suppress(DriverError):  # unrefunded units come back with the period
                    limit_context.wake(context.driver, context.limits.refund(key, rate, cost))
            raise


def check_rates(app: Any) -> None:
    """Raise UndefinedLimitError if a task names a rate that the app doesn't define."""
    for name, task in sorted(app.tasks.items()):
        for each in getattr(getattr(task, "options", None), "middleware", ()):
            if isinstance(each, RateLimited):
                try:
                    limit_context.named_rates(app)[each.limit]
                except UndefinedLimitError as error:
                    raise UndefinedLimitError(
                        f"task {name!r} is limited by {each.limit!r}: {error}"
                    ) from None


class ThrottleErrors(Middleware):
    """After `errors` errors in `per` seconds, all jobs with the same `by` wait.

    `wait`: for how many seconds (by default `per`). Then they run again: one more error begins
    another wait, a success resets the count. `only`: the errors that count. `key`: tasks with the
    same key share the count.
    """

    name = "throttle_errors"

    def __init__(
        self,
        errors: int,
        per: float,
        by: By = None,
        *,
        wait: float | None = None,
        key: str | None = None,
        only: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> None:
        if not isinstance(errors, int) or isinstance(errors, bool) or errors < 1:
            raise OptionError(f"expected errors to be a positive integer, got {errors!r}")
        for what, seconds in (("per", per), ("wait", per if wait is None else wait)):
            if not isinstance(seconds, (int, float)) or not 0 < seconds < limit_context.MAX_VALUE:
                raise OptionError(
                    f"expected {what} to be a positive number of seconds, got {seconds!r}"
                )
        self.breaker = Breaker(errors, float(per), float(per if wait is None else wait))
        self.by, self.key, self.only = _checked_by(by, key), key, only

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:
        context = limit_context.context_of(job)
        if context is None:
            return call_next()
        key = key_of(ERRORS, self.key or job.task, limit_context.by_value(self.by, job))
        with limits_available(job):
            wait, remembered = context.limits.check_breaker(key, job.id)
        if wait:
            raise LimitExceeded(wait)
        try:
            result = call_next()
        except (ReleaseJob, CancelJob):
            raise
        except FailJob as failure:
            self._count(context, key, failure.error)
            raise
        except Exception as error:
            self._count(context, key, error)
            raise
        if remembered:
            with suppress(DriverError):
                limit_context.clear(context.driver, key)
        return result

    def _count(self, context: LimitContext, key: str, error: BaseException) -> None:
        if isinstance(error, self.only) and not limit_context.is_celery_control_flow(error):
            with suppress(DriverError):  # if it can't be counted, it is still the job's error
                context.limits.record_error(key, self.breaker)


@contextmanager
def limits_available(job: RunningJob) -> Iterator[None]:
    """Within the block limits are asked. While they are away the job is released."""
    try:
        yield
    except DriverUnavailableError as error:
        logger.warning("%s[%s] waits for its limits: %s", job.task, job.id, error)
        raise LimitExceeded(AWAY_SECONDS) from error


def _before_deadline(job: RunningJob, wait: float) -> float:
    """`wait`, but not past the deadline: there may be room before. Half of the time left, then."""
    left = float("inf") if job.deadline is None else job.deadline - clock.now()
    return min(wait, left / 2) if left > 1 else wait


def _checked_by(by: By, key: str | None) -> By:
    names = by if isinstance(by, (list, tuple)) else [by]
    if not (
        by is None
        or callable(by)
        or (names and all(isinstance(name, str) and name for name in names))
    ):
        raise OptionError(
            f"expected by to be the name of an argument, several, or a callable, got {by!r}"
        )
    if key is not None:
        check_name(key)
    return by


def _one_of_two(otherwise: str) -> str:
    if otherwise not in (WAIT, SKIP):
        raise OptionError(f"expected otherwise to be 'wait' or 'skip', got {otherwise!r}")
    return otherwise


def _units(cost: Any) -> float:
    if (
        isinstance(cost, bool)
        or not isinstance(cost, (int, float))
        or not 0 <= cost < limit_context.MAX_VALUE
    ):
        raise OptionError(f"expected cost to be a number of units, got {cost!r}")
    return float(cost)
