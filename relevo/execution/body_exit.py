"""Makes every way in which a body can end an error that the worker knows.

    the body raises                        the attempt ended in
    an Exception                           that error
    SystemExit, KeyboardInterrupt,
      asyncio.CancelledError,
      another BaseException                JobExitedError
    MemoryError, in a task without
      options of ours                      JobMemoryError (with options: `attempt.fail`)

A BaseException is for whoever runs the process. In a pool it reaches nobody who could end the
attempt: a thread keeps its job and its place for ever, and the solo pool ends. Celery raises a
MemoryError of a child in the worker's main process, which then ends too.

What ends the process itself stays what it is (`ends_process`): a child that is told to end, a
worker's stop, the timeout of a green thread. So does everything in a job that runs in its caller's
process: there a Ctrl-C is its caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from billiard.common import terminate_handler_fired
from celery.exceptions import WorkerShutdown, WorkerTerminate

from relevo.errors import JobExitedError, JobMemoryError
from relevo.job import error_report
from relevo.job.task_protocol import TaskLike

# The packages of green threads: they end one by raising their own exceptions in it.
_GREEN = ("gevent", "greenlet", "eventlet")


def contain(task: TaskLike, body: Callable[..., Any]) -> Callable[..., Any]:
    """`body`, from which only an Exception comes that the worker can bear."""

    @wraps(body)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except MemoryError as error:
            if _is_bearable(task, error):
                raise
            raise JobMemoryError(error_report.message(error) or None) from error
        except Exception:
            raise
        except BaseException as error:
            if ends_process(error) or task.request.called_directly or task.request.is_eager:
                raise
            raise JobExitedError(
                f"The job raised {error_report.representation(error)},"
                " which ends a program and not a job."
            ) from error

    return run


def ends_process(error: BaseException) -> bool:
    """Whether this is no end of a job, but of the process or the green thread that runs it."""
    return (
        isinstance(error, (GeneratorExit, WorkerShutdown, WorkerTerminate))
        or type(error).__module__.partition(".")[0] in _GREEN
        or terminate_handler_fired()
    )


def _is_bearable(task: TaskLike, error: MemoryError) -> bool:
    """Whether somebody between the body and the main process makes another error of this one."""
    request = task.request
    if task.is_wrapped or request.called_directly or request.is_eager:
        return True
    retried = isinstance(error, tuple(getattr(task, "autoretry_for", None) or ()))
    return retried and (task.max_retries is None or request.retries < task.max_retries)
