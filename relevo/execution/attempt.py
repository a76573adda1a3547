"""One attempt in a worker child: run the body, decide how it ended, carry that out.

    Celery's tracer -> run -> its middlewares -> the task's body
                        |  error, release, skip or fail
                        v
                     decide -> Retry, Released -> the job goes back, Celery hears `Retry`
                            -> Failed          -> the `failed` hook, then the error itself: Celery records FAILURE
                            -> Cancelled       -> Celery records SUCCESS with None, history a cancelled job

`guarded` wraps `run` of those tasks only that have a policy, a hook or a middleware. A `__call__`
on the base class would reach every task, and take the tracer's short way to `run` from all of them.
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
from relevo.execution.unique_release import with_start
from relevo.job import payload
from relevo.job.control_flow import Cancelling, Failing
from relevo.job.middleware import RunningJob, around, named
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

# Characters.
LONGEST_REASON = 200

Error = TypeVar("Error", bound=BaseException)


def guarded(task: TaskLike, body: Callable[..., Any]) -> Callable[..., Any]:
    """`body` as an attempt of a job. Called directly, outside a worker, it is just the body."""

    @wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        if request.called_directly:
            return body(*args, **kwargs)
        return (in_place if request.is_eager else attempt)(task, body, args, kwargs)

    return run


def hooked(task: TaskLike, run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` with Celery's `autoretry_for` in it, and the `failed` hook around: what leaves it has
    failed for good.
    """

    @wraps(run)
    def outside(*args: Any, **kwargs: Any) -> Any:
        if task.request.called_directly:
            return run(*args, **kwargs)
        baton, _ = carried(task, task.request)
        if baton.verdict is not None:
            raise with_hook(task, baton, failed_hook.error_of(task, baton.verdict))
        try:
            return run(*args, **kwargs)
        except TaskPredicate:
            raise
        except Exception as error:
            with_hook(task, baton.after(error), error)
            raise

    return outside


def in_place(task: TaskLike, body: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """All attempts of a job that runs without a broker (`sync`, `apply`, the sync connection), one
    upon the other.

    Celery would leave the retries to `apply`, which forgets them when errors are to reach the
    caller. Nothing waits here: a retry comes at once, and a release ends the job (state IGNORED),
    since what it waits for won't have come.
    """
    while True:
        try:
            return attempt(task, body, args, kwargs)
        except CeleryRetry as again:
            if again.sig is None:  # raised by the job itself, with nothing to go on with
                raise
            args, kwargs, sent = again.sig.args, again.sig.kwargs, again.sig.options
            task.request.update(
                args=args, kwargs=kwargs, retries=sent["retries"], headers=sent["headers"]
            )


def attempt(
    task: TaskLike, body: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run `body` once and carry out what follows from how it ended."""
    baton, options = carried(task, task.request)
    if (ended := over(task, baton)) is not None:
        raise failed(task, baton, ended)
    try:
        result = run_once(task, body, args, kwargs, baton, options)
    except TaskPredicate:  # Celery's own Retry, Ignore and Reject: the job has said what it wants
        raise
    except Cancelling as told:
        return None if task.request.is_eager else _decide(task, baton, options, told)
    except Failing as told:
        show_where(told)
        raise consequence(
            _decide(task, baton, options, told), task, baton
        ) from told.error.__cause__
    # - a job may raise anything; what it raised is what is decided on
    except Exception as error:  # noqa: BLE001
        if isinstance(error, options.missing):
            return None if task.request.is_eager else Cancelled(f"{error!s}"[:LONGEST_REASON])
        # `from` would make a job's own error its own cause.
        raise consequence(_decide(task, baton, options, error), task, baton)  # noqa: B904
    return result


def run_once(
    task: TaskLike,
    body: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    baton: Baton,
    options: Options,
) -> Any:
    """The body, with its middlewares around it."""
    if task.app_models is not None:
        body = partial(with_rows, task, body)
    if not (middlewares := with_start(task, baton, options.middleware)):
        return body(*args, **kwargs)
    return around(middlewares, running(task, baton, options), partial(body, *args, **kwargs))


def with_rows(task: TaskLike, body: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The body, with rows where its arguments are references to them: inside the transaction, where
    there is one.
    """
    return body(*models.loaded(task, args), **models.loaded(task, kwargs))


def running(task: TaskLike, baton: Baton, options: Options) -> RunningJob:
    """The job as a middleware gets it."""
    request = task.request
    job = payload.job(task, request, baton)
    held = not request.is_eager and (request.properties or {}).get(LEASED)
    return RunningJob(
        **{field.name: getattr(job, field.name) for field in fields(job)},
        options=options,
        lease=request.properties.get("delivery_tag") if held else None,
        app=task.app,
        permit=request.properties.get(PERMIT) if held else None,
    )


def show_where(told: Failing) -> None:
    """Give the error of a `fail` a traceback: its own if it was raised once, else the one that
    leads to the `fail`.
    """
    if told.error.__traceback__ is None:
        told.error.__traceback__ = told.__traceback__


def carried(task: TaskLike, request: Any) -> tuple[Baton, Options]:
    """The baton of a job, and the task's options with those of its dispatch over them.

    A job sent by its name alone (`send_task`, another program) has no deadline yet: it counts from
    the first attempt.
    """
    baton = payload.received(request)
    options = task.options
    with suppress(OptionError):  # checked at the dispatch; what is wrong now has been tampered with
        known = POLICY | {"delete_when_missing"}
        override = {name: value for name, value in baton.override.items() if name in known}
        options = options.with_given(override, task.name)
        if "middleware" in baton.override:
            options = replace(
                options,
                middleware=named(baton.override["middleware"], options.middleware, task.name),
            )
    if baton.deadline is None and options.retry_until is not None:
        baton = replace(baton, deadline=clock.now() + options.retry_until)
    if (
        request.is_eager and options.endless
    ):  # run in place, a retry doesn't wait: only a count can end it
        options = replace(options, tries=1)
    return baton, options


def over(task: TaskLike, baton: Baton) -> Exception | None:
    """The error of a job that has failed already (and came back for its hook), or whose deadline
    has passed.
    """
    if baton.verdict is not None:
        return failed_hook.error_of(task, baton.verdict)
    if baton.deadline is None or (late := clock.now() - baton.deadline) < 0:
        return None
    what = f"attempt {task.attempt} of {task.name!r} could not start: its deadline passed {late:.1f} s before"
    return DeadlineError(f"{what}; raise retry_until, or run more workers.")


def consequence(outcome: Outcome, task: TaskLike, baton: Baton) -> BaseException:
    """Do what was decided on an attempt that went wrong. What is returned is to be raised: it tells
    Celery of it.
    """
    match outcome:
        case Retry(seconds=seconds, error=error):
            noted = baton.after(error).noting(task.attempt, error)
            return put_back(task, seconds, task.request.retries + 1, noted, error)
        case Released(seconds=seconds):
            return put_back(task, seconds, task.request.retries, baton, None)
        case Failed(error=final):
            return failed(task, baton.after(final), final)
        case Completed() | Cancelled():
            raise AssertionError("an attempt that went wrong can't have completed")
    assert_never(outcome)


def put_back(
    task: TaskLike, seconds: float, retries: int, baton: Baton, error: BaseException | None
) -> TaskPredicate:
    """Have the job put back, and answer Celery's word for it: the main process does it, or acks
    what was sent anew.
    """
    request = task.request
    if request.is_eager and error is None:
        return Ignore(f"released for {seconds:g} s, and there is no broker to go back to")
    if not request.is_eager and requeue.is_leased(task, request):
        return requeue.Again(
            None, error, seconds, max(seconds, requeue.BEHIND), retries, baton.header()
        )
    place = requeue.signature if request.is_eager else requeue.send
    job = place(task, request, seconds=seconds, retries=retries, baton=baton)
    return CeleryRetry(exc=error, when=seconds, is_eager=request.is_eager, sig=job)


def failed(task: TaskLike, baton: Baton, final: BaseException) -> BaseException:
    """Run the hook of a job that has failed, and answer the error for Celery to record."""
    if not task.hook_is_outside:
        with_hook(task, baton, final)
    # A MemoryError that leaves the child ends the worker's main process: celery.worker.request
    # raises it there.
    return JobMemoryError() if isinstance(final, MemoryError) else final


def with_hook(task: TaskLike, baton: Baton, final: Error) -> Error:
    """Run the hook of a job that has failed, and answer its error."""
    failed_hook.run(task, payload.job(task, task.request, baton), final)
    return final


def _decide(task: TaskLike, baton: Baton, options: Options, error: BaseException) -> Outcome:
    dice = random.random()  # noqa: S311 - spreads waits, guards nothing
    return decide(
        error, None, attempt=task.attempt, baton=baton, options=options, now=clock.now(), dice=dice
    )
