"""One attempt in a pool process: run the body, decide how it ended, carry that out.

    Celery's tracer -> run -> middlewares -> the task's body
                        |  an error, release, skip or fail
                        v
                     decide -> Retry, Released -> the job is released; Celery hears `Retry`
                            -> Failed          -> the `failed` hook, then the error itself:
                                                  Celery stores FAILURE
                            -> Cancelled       -> Celery stores SUCCESS with None; history says
                                                  cancelled

`wrap_attempt` wraps `run` of those tasks only that have a policy, a hook, a middleware or models. A
`__call__` on the base class would reach every task, and the tracer would lose its short way to
`run` for all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial, wraps
from typing import Any, TypeVar, assert_never

from celery.exceptions import Ignore, TaskPredicate
from celery.exceptions import Retry as CeleryRetry

from relevo import clock
from relevo.drivers.message_codec import LEASED, PERMIT
from relevo.errors import DeadlineError, JobMemoryError, OptionError
from relevo.execution import failed_hook, models, requeue
from relevo.execution.unique_release import with_unique_release
from relevo.job import payload
from relevo.job.control_flow import CancelJob, FailJob
from relevo.job.middleware import RunningJob, run_middleware, select
from relevo.job.options import POLICY, Options
from relevo.job.outcome import (
    Cancelled,
    Completed,
    Failed,
    Outcome,
    Released,
    Retry,
    decide,
)
from relevo.job.payload import Baton
from relevo.job.task_protocol import TaskLike

# The longest reason of a cancelled job that history keeps.
MAX_REASON_CHARS = 200

Error = TypeVar("Error", bound=BaseException)


def wrap_attempt(task: TaskLike, body: Callable[..., Any]) -> Callable[..., Any]:
    """`body` as an attempt of a job. Called directly, outside a worker, it is the body alone."""

    @wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        if request.called_directly:
            return body(*args, **kwargs)
        return (run_inline if request.is_eager else attempt)(task, body, args, kwargs)

    return run


def wrap_failed_hook(task: TaskLike, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run`, with Celery's `autoretry_for` inside and the `failed` hook outside.

    An error that leaves Celery's wrapper is final, so the hook runs.
    """

    @wraps(run)
    def outside(*args: Any, **kwargs: Any) -> Any:
        if task.request.called_directly:
            return run(*args, **kwargs)
        baton, _ = load_state(task, task.request)
        if baton.verdict is not None:
            raise run_failed_hook(task, baton, failed_hook.deserialize_error(task, baton.verdict))
        try:
            return run(*args, **kwargs)
        except TaskPredicate:
            raise
        except Exception as error:
            run_failed_hook(task, baton.after_error(error), error)
            raise

    return outside


def run_inline(task: TaskLike, body: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """All attempts of a job that runs without a broker (`sync`, `apply`, the sync connection).

    Celery would leave the retries to `apply`, which drops them when errors are to reach the caller.
    Nothing waits here: a retry follows at once. A release ends the job (state IGNORED), because the
    event that it waits for can't come meanwhile.
    """
    while True:
        try:
            return attempt(task, body, args, kwargs)
        except CeleryRetry as again:
            if again.sig is None:  # the job has raised a bare Retry: there is no next message
                raise
            args, kwargs, sent = again.sig.args, again.sig.kwargs, again.sig.options
            task.request.update(
                args=args, kwargs=kwargs, retries=sent["retries"], headers=sent["headers"]
            )


def attempt(
    task: TaskLike, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run `body` once, decide how it ended, and carry that out."""
    baton, options = load_state(task, task.request)
    if (ended := already_failed(task, baton)) is not None:
        raise fail(task, baton, ended)
    try:
        result = call_body(task, body, args, kwargs, baton, options)
    except TaskPredicate:  # Celery's Retry, Ignore and Reject are the job's own decision
        raise
    except CancelJob as cancel:
        return None if task.request.is_eager else _decide(task, baton, options, cancel)
    except FailJob as failure:
        attach_traceback(failure)
        raise apply_outcome(
            _decide(task, baton, options, failure), task, baton
        ) from failure.error.__cause__
    except Exception as error:  # noqa: BLE001  a job may raise anything
        if isinstance(error, options.missing):
            return None if task.request.is_eager else Cancelled(f"{error!s}"[:MAX_REASON_CHARS])
        # Without `from`: the error raised here may be `error`, which must not be its own cause.
        raise apply_outcome(_decide(task, baton, options, error), task, baton)  # noqa: B904
    return result


def call_body(
    task: TaskLike,
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    baton: Baton,
    options: Options,
) -> Any:
    """Run the body inside its middlewares."""
    if task.app_models is not None:
        body = partial(load_models, task, body)
    if not (middlewares := with_unique_release(task, baton, options.middleware)):
        return body(*args, **kwargs)
    return run_middleware(
        middlewares, running_job(task, baton, options), partial(body, *args, **kwargs)
    )


def load_models(task: TaskLike, body: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run the body with rows in place of references, loaded in the job's transaction if any."""
    return body(*models.resolve(task, args), **models.resolve(task, kwargs))


def running_job(task: TaskLike, baton: Baton, options: Options) -> RunningJob:
    """The running job, as a middleware gets it."""
    request = task.request
    job = payload.job_of(task, request, baton)
    held = not request.is_eager and (request.properties or {}).get(LEASED)
    return RunningJob(
        **{field.name: getattr(job, field.name) for field in fields(job)},
        options=options,
        lease=request.properties.get("delivery_tag") if held else None,
        app=task.app,
        permit=request.properties.get(PERMIT) if held else None,
    )


def attach_traceback(failure: FailJob) -> None:
    """Give the error of a `fail` the traceback that leads to the `fail`, if it has none."""
    if failure.error.__traceback__ is None:
        failure.error.__traceback__ = failure.__traceback__


def load_state(task: TaskLike, request: Any) -> tuple[Baton, Options]:
    """The baton of a job, and the task's options with the dispatch's over them.

    A job sent by name alone (`send_task`, another program) has no deadline in its message: its
    `retry_until` counts from the first attempt.
    """
    baton = payload.baton_of(request)
    options = task.options
    with suppress(OptionError):  # they were checked at the dispatch: bad ones were tampered with
        known = POLICY | {"delete_when_missing"}
        override = {name: value for name, value in baton.override.items() if name in known}
        options = options.with_given(override, task.name)
        if "middleware" in baton.override:
            options = replace(
                options,
                middleware=select(baton.override["middleware"], options.middleware, task.name),
            )
    if baton.deadline is None and options.retry_until is not None:
        baton = replace(baton, deadline=clock.now() + options.retry_until)
    # An eager job's retries don't wait, so only a count can end them.
    if request.is_eager and options.has_no_limit:
        options = replace(options, tries=1)
    return baton, options


def already_failed(task: TaskLike, baton: Baton) -> Exception | None:
    """The error of a job that must not run any more; None for one that may.

    It came back with a verdict for its hook to run, or its deadline has passed.
    """
    if baton.verdict is not None:
        return failed_hook.deserialize_error(task, baton.verdict)
    if baton.deadline is None or (late := clock.now() - baton.deadline) < 0:
        return None
    return DeadlineError(
        f"attempt {task.attempt} of {task.name!r} could not start: its deadline passed"
        f" {late:.1f} s before; raise retry_until, or run more workers."
    )


def apply_outcome(outcome: Outcome, task: TaskLike, baton: Baton) -> BaseException:
    """Carry out the outcome of a failed attempt. Returns the exception that tells Celery."""
    match outcome:
        case Retry(seconds=seconds, error=error):
            noted = baton.after_error(error).with_error(task.attempt, error)
            return release(task, seconds, task.request.retries + 1, noted, error)
        case Released(seconds=seconds):
            return release(task, seconds, task.request.retries, baton, None)
        case Failed(error=final):
            return fail(task, baton.after_error(final), final)
        case Completed() | Cancelled():
            raise AssertionError("an attempt that went wrong can't have completed")
    assert_never(outcome)


def release(
    task: TaskLike, seconds: float, retries: int, baton: Baton, error: BaseException | None
) -> TaskPredicate:
    """Release the job, to run again after `seconds`. Returns the exception that tells Celery.

    On our brokers the main process releases it on that order. Elsewhere a new message is published
    here, and the main process acks the old one.
    """
    request = task.request
    if request.is_eager and error is None:
        return Ignore(f"released for {seconds:g} s, and there is no broker to go back to")
    if not request.is_eager and requeue.is_leased(task, request):
        return requeue.ReleaseRetry(
            None, error, seconds, max(seconds, requeue.MIN_DELAY_SECONDS), retries, baton.header()
        )
    retry = requeue.requeued_signature if request.is_eager else requeue.republish
    job = retry(task, request, seconds=seconds, retries=retries, baton=baton)
    return CeleryRetry(exc=error, when=seconds, is_eager=request.is_eager, sig=job)


def fail(task: TaskLike, baton: Baton, final: BaseException) -> BaseException:
    """Run the hook of a job that has failed. Returns the error for Celery to store."""
    if not task.hook_wraps_celery_retries:
        run_failed_hook(task, baton, final)
    # celery.worker.request raises a child's MemoryError in the main process, which would end.
    return JobMemoryError() if isinstance(final, MemoryError) else final


def run_failed_hook(task: TaskLike, baton: Baton, final: Error) -> Error:
    """Run the hook of a job that has failed. Returns the error."""
    failed_hook.run(task, payload.job_of(task, task.request, baton), final)
    return final


def _decide(task: TaskLike, baton: Baton, options: Options, error: BaseException) -> Outcome:
    dice = random.random()  # noqa: S311 - it spreads waits and guards nothing
    return decide(
        error, None, attempt=task.attempt, baton=baton, options=options, now=clock.now(), dice=dice
    )
