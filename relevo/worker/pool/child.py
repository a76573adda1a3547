"""A child of the prefork pool: it takes jobs from its pipe, runs them one after the other, and says
how each has ended.

    main process -> [job, job, …]   what this child is to run, in order
    child        -> started | ended | refused, one message each

Memory shared with the main process says which job the child has taken last, and which were called
back (see `prefork`): a job that was called back is refused.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from billiard.common import clear_terminate_handler_fired, reset_signals, terminate_handler_fired
from billiard.compat import mem_rss
from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded
from billiard.pool import EX_FAILURE, EX_OK, EX_RECYCLE, MaybeEncodingError
from celery.utils.log import get_logger

from relevo.execution import stop_flag
from relevo.worker.pool import pipe

logger = get_logger(__name__)

#: What a child says: it is ready; it has started this job; the job has ended; it was called back.
READY, STARTED, ENDED, REFUSED = range(4)

#: The places of one child in the shared memory: the number of the job that it has taken last, since
#: when (monotonic seconds), and when that job's soft and hard limits are over (0: never).
TAKEN, SINCE, SOFT_END, HARD_END, RECALLED = range(5)
PLACES = 5


class Call(NamedTuple):
    """A job for a child: a function and its arguments. `announced`: say when it starts."""

    number: int
    target: Callable[..., Any]
    args: Any
    kwargs: Any
    soft: float | None
    hard: float | None
    announced: bool


@dataclass
class Limits:
    """What a child is told at its start. `jobs`: it ends after so many. `memory`: KiB."""

    initializer: Callable[..., None]
    initargs: tuple[Any, ...]
    on_exit: Callable[[int, int], None]
    jobs: int | None = None
    memory: int | None = None
    soft: float | None = None
    hard: float | None = None


class Child:
    """One child. `shared` is None where it was not forked: it then announces every start."""

    def __init__(self, end: pipe.ChildEnd, limits: Limits, shared: Any) -> None:
        self._pipe, self._limits, self._shared = end, limits, shared
        self._done = 0

    def run(self) -> int:
        """Do jobs until there are to be no more. Returns the exit code."""
        self._begin()
        self._pipe.send(pipe.dumps((READY, os.getpid())))
        while True:
            try:
                calls = self._pipe.receive()
            except EOFError:
                return EX_OK
            if calls is None:
                return EX_OK
            for call in calls:
                self._take(call)
                if self._is_used_up():
                    return EX_RECYCLE

    def _begin(self) -> None:
        clear_terminate_handler_fired()
        self._limits.initializer(*self._limits.initargs)
        reset_signals(full=True)
        signal.signal(signal.SIGUSR1, self._on_soft_limit)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._shared is not None:
            stop_flag.ignore_group_sigterm()

    def _take(self, call: Call) -> None:
        now = time.monotonic()
        shared = self._shared
        if shared is not None:
            shared[SOFT_END] = now + call.soft if call.soft else 0
            shared[HARD_END] = now + call.hard if call.hard else 0
            shared[SINCE], shared[TAKEN] = now, call.number
            if call.number <= shared[RECALLED]:
                self._pipe.send(pipe.dumps((REFUSED, call.number)))
                return
        if call.announced or shared is None:
            self._pipe.send(pipe.dumps((STARTED, call.number, now)))
        ended: BaseException | None = None
        try:
            answer = (True, call.target(*call.args, **call.kwargs))
        except BaseException as error:  # whatever it is, the main process hears of it
            if terminate_handler_fired():  # killed amid the job: it counts as lost with its child
                raise
            answer = (False, ExceptionInfo())
            ended = error
        if shared is not None:
            shared[SOFT_END] = shared[HARD_END] = 0
        self._say(call.number, answer)
        self._done += 1
        if isinstance(ended, (SystemExit, KeyboardInterrupt)):
            raise ended

    def limit(self, soft: float | None, hard: float | None) -> None:
        """The job that runs now may run for so many seconds; else for the pool's."""
        if self._shared is not None:
            soft, hard = soft or self._limits.soft, hard or self._limits.hard
            now = self._shared[SINCE] = time.monotonic()
            self._shared[SOFT_END] = now + soft if soft else 0
            self._shared[HARD_END] = now + hard if hard else 0

    def _say(self, number: int, answer: tuple[bool, Any]) -> None:
        try:
            written = pipe.dumps((ENDED, number, *answer))
        except Exception as error:  # noqa: BLE001  a value may refuse to be pickled in any way
            wrapped = MaybeEncodingError(error, answer[1])
            info = ExceptionInfo((MaybeEncodingError, wrapped, sys.exc_info()[2]))
            written = pipe.dumps((ENDED, number, False, info))
        self._pipe.send(written)

    def _is_used_up(self) -> bool:
        limits = self._limits
        if limits.jobs and self._done >= limits.jobs:
            return True
        if not limits.memory:
            return False
        used = mem_rss()
        if used <= limits.memory:
            return False
        logger.warning(
            "child process exits: it uses %d KiB, expected at most %d", used, limits.memory
        )
        return True

    def _on_soft_limit(self, *_signal: Any) -> None:
        end = self._shared[SOFT_END] if self._shared is not None else 0.1
        if end and time.monotonic() >= end:  # else the job that it was meant for has just ended
            raise SoftTimeLimitExceeded


#: The child of this process, if it is one.
_current: Child | None = None


def limit(soft: float | None, hard: float | None) -> None:
    """Say for how many seconds the job that runs now may run, where its call couldn't say it."""
    if _current is not None:
        _current.limit(soft, hard)


def main(end: Any, limits: Limits, shared: Any) -> None:
    """The body of a child process: it exits here."""
    code = EX_FAILURE
    try:
        global _current  # noqa: PLW0603  one a process
        _current = Child(pipe.ChildEnd(end), limits, shared)
        code = _current.run()
    except SystemExit as stop:
        code = (
            stop.code if isinstance(stop.code, int) else EX_OK if stop.code is None else EX_FAILURE
        )
    except KeyboardInterrupt:
        pass
    except BaseException:
        logger.exception("child process %d ends by an error", os.getpid())
    finally:
        try:
            limits.on_exit(os.getpid(), code)
        finally:
            os._exit(code)
