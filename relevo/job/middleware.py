"""The base class of a middleware, the job as it gets it, and how several of them stand around one
run.

    around((A, B), job, body)   A.handle(job, ·) -> B.handle(job, ·) -> body

Pure but for what the middlewares do. Which of them a job has is decided in execute.py; that they
fit is checked here, when the task is defined.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from relevo.errors import JobFailedError, OptionError, did_you_mean
from relevo.job import backoff
from relevo.job.control_flow import CancelJob, FailJob, ReleaseJob
from relevo.job.payload import Job

#: What goes on: the next middleware or, after the last one, the job itself.
CallNext = Callable[[], Any]

EXPECTED = (
    "a list of middlewares: objects with handle(job, call_next), or functions (job, call_next)"
)


@dataclass(frozen=True, slots=True)
class RunningJob(Job):
    """A job at the beginning of an attempt: what the `failed` hook gets, and what a middleware
    needs beside it.

    `options`: those of the task, with those of the dispatch over them. `lease`: the token of the
    lease that the worker holds the job by, fresh at every taking; None where there is none (run in
    place, or on a broker that isn't ours). `permit`: the key of the limit whose permit the worker
    holds for it already.
    """

    options: Any  # `Options`, which is made of middlewares
    lease: str | None
    app: Any
    permit: str | None = None

    def release(self, seconds: float = 0) -> NoReturn:
        """End this attempt: the job goes back and runs again after `seconds`. It burns no attempt."""
        if not backoff.is_wait(seconds):
            raise OptionError(
                f"expected release to be a number of seconds, got {seconds!r} (task {self.task!r})"
            )
        raise ReleaseJob(seconds)

    def skip(self, reason: str = "skipped") -> NoReturn:
        """End the job without running it. Its result is None, what follows it runs, and history
        says cancelled.
        """
        raise CancelJob(reason)

    def fail(self, error: Exception | str) -> NoReturn:
        """End the job: it has failed for good, with `error`, whatever tries it had left."""
        raise FailJob(JobFailedError(error) if isinstance(error, str) else error)


class Middleware:
    """Stands around the run of a job. One object serves all jobs of its task, at once where the
    pool has threads.
    """

    #: By which a dispatch calls it; a class that gives none is called by its own name.
    name: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__dict__.get("name") or cls.__name__

    # a subclass looks at it
    def handle(self, job: RunningJob, call_next: CallNext) -> Any:  # noqa: ARG002
        """Run the job, or don't. What is returned is the job's result."""
        return call_next()


class FunctionMiddleware(Middleware):
    """A function as a middleware."""

    def __init__(self, function: Callable[[RunningJob, CallNext], Any]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", repr(function))

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:
        return self.function(job, call_next)


def is_valid(given: Any) -> bool:
    """Whether this can be a list of middlewares."""
    return isinstance(given, (list, tuple)) and all(map(_is_one, given))


def normalize(given: Iterable[Any]) -> tuple[Middleware, ...]:
    """A list that fits, in the one shape the rest reads."""
    return tuple(each if hasattr(each, "handle") else FunctionMiddleware(each) for each in given)


def select(names: Sequence[str], known: Sequence[Middleware], task: str) -> tuple[Middleware, ...]:
    """Those of `known` that a dispatch asks for, in its order. Raises OptionError for one that
    isn't there.
    """
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise OptionError(
            f"expected middleware to be a list of names, as a dispatch gives it, got {names!r}"
        )
    found = []
    for name in names:
        same = [each for each in known if middleware_name(each) == name]
        if not same:
            there = [middleware_name(each) for each in known]
            hint = did_you_mean(name, there) or f", which has {', '.join(there) or 'none'}"
            raise OptionError(f"no middleware named {name!r} around task {task!r}{hint}")
        found += same
    return tuple(found)


def middleware_name(middleware: Any) -> str:
    """What a dispatch calls it by; it need not be a subclass of ours."""
    return str(getattr(middleware, "name", "") or type(middleware).__name__)


def run_middleware(middlewares: Sequence[Middleware], job: RunningJob, body: CallNext) -> Any:
    """Run `body` with the middlewares around it, the first outermost."""
    run = body
    for middleware in reversed(middlewares):
        run = partial(middleware.handle, job, run)
    return run()


def _is_one(given: Any) -> bool:
    handle = getattr(given, "handle", given)
    if isinstance(given, type) or not callable(handle):  # a class: somebody forgot its brackets
        return False
    try:
        inspect.signature(handle).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # written in C, it doesn't say
        return True
    return True
