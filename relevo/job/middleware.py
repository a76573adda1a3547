"""The base class of a middleware, the job that it gets, and how several of them wrap one run.

    run_middleware((A, B), job, body)     A.handle(job, ·) -> B.handle(job, ·) -> body

Middlewares are checked here, when a task is defined or dispatched. `relevo/execution/attempt.py`
runs them at each attempt. `relevo.middleware` is the public face of this module.
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

#: Runs the next middleware or, after the last one, the job itself.
CallNext = Callable[[], Any]

EXPECTED = (
    "a list of middlewares: objects with handle(job, call_next), or functions (job, call_next)"
)


@dataclass(frozen=True, slots=True)
class RunningJob(Job):
    """A job at the beginning of an attempt, as a middleware gets it.

    `options`: the task's, with the dispatch's over them. `lease`: the token of the lease by which
    the worker holds the job, a new one at each delivery; None for a job that runs inline or comes
    from a foreign broker. `permit`: the key of the limit whose permit the worker holds already.
    """

    options: Any  # `Options`: importing it here would close a circle
    lease: str | None
    app: Any
    permit: str | None = None

    def release(self, seconds: float = 0) -> NoReturn:
        """End this attempt: the job runs again after `seconds`. It doesn't count as an attempt."""
        if not backoff.is_wait(seconds):
            raise OptionError(
                f"expected release to be a number of seconds, got {seconds!r} (task {self.task!r})"
            )
        raise ReleaseJob(seconds)

    def skip(self, reason: str = "skipped") -> NoReturn:
        """End the job without running it, as cancelled.

        Its result is None; links and callbacks that follow it run.
        """
        raise CancelJob(reason)

    def fail(self, error: Exception | str) -> NoReturn:
        """End the job as failed with `error`, even if it has tries left."""
        raise FailJob(JobFailedError(error) if isinstance(error, str) else error)


class Middleware:
    """Wraps the run of a job. One object serves all jobs of its task, several at once in a pool of
    threads.
    """

    #: The name by which a dispatch selects it: the class's name, unless the class sets another.
    name: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__dict__.get("name") or cls.__name__

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:  # noqa: ARG002  for subclasses
        """Run the job with `call_next()`, or end it. The returned value is the job's result."""
        return call_next()


class FunctionMiddleware(Middleware):
    """A function as a middleware."""

    def __init__(self, function: Callable[[RunningJob, CallNext], Any]) -> None:
        self.function = function
        self.name = getattr(function, "__name__", repr(function))

    def handle(self, job: RunningJob, call_next: CallNext) -> Any:
        return self.function(job, call_next)


def is_valid(given: Any) -> bool:
    """Whether this is a list of middlewares."""
    return isinstance(given, (list, tuple)) and all(map(_is_one, given))


def normalize(given: Iterable[Any]) -> tuple[Middleware, ...]:
    """A valid list as a tuple, with functions wrapped."""
    return tuple(each if hasattr(each, "handle") else FunctionMiddleware(each) for each in given)


def select(names: Sequence[str], known: Sequence[Middleware], task: str) -> tuple[Middleware, ...]:
    """The middlewares of `known` with these names, in this order.

    Raises OptionError for a name that is not there.
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
    """The name of a middleware, also of one that is no subclass of `Middleware`."""
    return str(getattr(middleware, "name", "") or type(middleware).__name__)


def run_middleware(middlewares: Sequence[Middleware], job: RunningJob, body: CallNext) -> Any:
    """Run `body` inside the middlewares, the first one outermost."""
    run = body
    for middleware in reversed(middlewares):
        run = partial(middleware.handle, job, run)
    return run()


def _is_one(given: Any) -> bool:
    handle = getattr(given, "handle", given)
    if isinstance(given, type) or not callable(handle):  # a class: its brackets were forgotten
        return False
    try:
        inspect.signature(handle).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # a function in C may have no signature
        return True
    return True
