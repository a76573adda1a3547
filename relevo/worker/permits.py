"""PermitAdmission in a worker's main process: taken for many jobs in one step when they are reserved, given
back in another.

    reserve -> enter: take_free, one step for all        -> granted: the job starts under the permit
                                                         -> not: it waits here while all places of the pool are busy;
                                                            then it is tried once more, and asks for
                                                            itself
    a job has ended -> its permit is spare -> the next job of the key here starts under it (said in
    the next write)
                                           -> or it is given back, in the next write

A task whose first middleware is `WithoutOverlapping` needs no round trip of its pool process then.
What that middleware does by itself is still there for the rest: keys that somebody waits at, `by`
that is a callable (the project's code has no business in this process), an order of middlewares
given at the dispatch.

Never more than n at once: a permit is passed on only when the process that ran the job has said
that it ended, and is in the broker's books under the one job or the other all the time, since the
keeper has `write` called before it ends any lease. So whatever happens in between, it ends as
permits do, with the lease it names:

| the worker dies after                | the permit                                                                  |
|--------------------------------------|-----------------------------------------------------------------------------|
| it was taken, before the job starts  | ends with that job's lease                                                  |
| the answer to the taking is lost     | is taken again, here or by the job itself: "who has one has it"             |
| its job ended, before `write`        | ends with that job's lease, which nobody renews                             |
| it was passed on, before `write`     | the same; the job that runs under it dies at that moment, too               |
| `write`, its answer lost             | it is written again; what was passed on is found gone, and its new holder   |
|                                      | has one already or takes what is free                                       |
| `write`, before the lease is ended   | is the other job's, or free                                                 |

Nobody in line is overtaken for longer than it takes to write (20 ms under load): where somebody
waits nothing is taken here, and nothing passed on.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from relevo import clock
from relevo.drivers.contract import Driver, ReservedJob
from relevo.drivers.message_codec import HEADER, MARK, loads
from relevo.errors import DriverError, DriverUnavailableError
from relevo.limits.contract import Holder, PermitHandover, PermitRequest
from relevo.middleware import limit_context
from relevo.middleware.limits import WithoutOverlapping
from relevo.transport.admission import Admission

logger = logging.getLogger(__name__)

# So many keys at which somebody waits are remembered: to forget them costs a look.
MOST_CROWDED = 10_000


class Asking(NamedTuple):
    """What a limit needs to know of a job that has been reserved, to say whose it is."""

    app: Any
    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def needed(app: Any) -> bool:
    """Whether any task of an app has a permit to be taken here."""
    return any(_middleware(task) is not None for task in app.tasks.values())


class PermitAdmission(Admission):
    """The permits of the jobs that this process has from one broker."""

    def __init__(self, app: Any, driver: Driver) -> None:
        self._app, self._driver, self._limits = app, driver, limit_context.limits_for(driver)
        self._wants: dict[str, PermitRequest] = {}
        self._has: dict[str, PermitRequest] = {}
        self._spare: defaultdict[str, list[PermitRequest]] = defaultdict(list)
        self._left: list[PermitHandover] = []
        self._crowded: set[str] = set()
        self._lock, self._writing = threading.Lock(), threading.Lock()

    # --- the consuming loop -----------------------------------------------------------------------
    def admit(self, jobs: Sequence[ReservedJob]) -> None:
        wanted = [one for job in jobs if (one := self._wanted(job)) is not None]
        with self._lock:
            self._wants.update((one.holder.token, one) for one in wanted)
        self._take(wanted)

    def next(self, jobs: deque[ReservedJob], idle: bool) -> ReservedJob | None:
        job = self._first(jobs, idle=False)
        if job is None and idle and jobs:
            # Not left to the job: before it asks, the next to be reserved here would have taken
            # what it could have had.
            self._take([one for job in jobs if (one := self._wants.get(job.lease.token))])
            job = self._first(jobs, idle=False) or self._first(jobs, idle=True)
        return job

    def _take(self, wanted: Sequence[PermitRequest]) -> None:
        """Take what is free for these, in one step."""
        if not wanted:
            return
        try:
            taken = self._limits.take_free(wanted)
        except DriverError as error:
            logger.warning("%d jobs will ask for their permits themselves: %s", len(wanted), error)
            return
        with self._lock:
            for one in wanted:
                if (
                    one.holder.token in taken
                    and self._wants.pop(one.holder.token, None) is not None
                ):
                    self._has[one.holder.token] = one
                    self._crowded.discard(one.key)

    def _first(self, jobs: deque[ReservedJob], idle: bool) -> ReservedJob | None:
        with self._lock:
            for at, job in enumerate(jobs):
                if self._may_start(job.lease.token, idle):
                    del jobs[at]
                    return job
        return None

    def _may_start(self, token: str, idle: bool) -> bool:
        wanted = self._wants.get(token)
        if wanted is None:
            return True
        spare = self._spare.get(wanted.key)
        if not spare and not idle and wanted.key not in self._crowded:
            return False
        del self._wants[token]
        if spare:
            self._left.append(PermitHandover(spare.pop(), wanted.holder))
            self._has[token] = wanted
        return True

    def permit_of(self, token: str) -> str | None:
        has = self._has.get(token)
        return has.key if has is not None else None

    # --- any thread -------------------------------------------------------------------------------
    def body_ended(self, token: str) -> None:
        with self._lock:
            has = self._has.pop(token, None)
            if has is not None and has.key in self._crowded:
                self._leave(has)
            elif has is not None:
                self._spare[has.key].append(has)

    def removed(self, token: str) -> None:
        with self._lock:
            self._wants.pop(token, None)
            if has := self._has.pop(token, None):
                self._leave(has)

    def flush(self) -> bool:
        with self._writing:
            with self._lock:
                for has in [has for some in self._spare.values() for has in some]:
                    self._leave(has)
                self._spare.clear()
                left, self._left = self._left, []
            return not left or self._written(left)

    def _leave(self, has: PermitRequest) -> None:
        self._left.append(PermitHandover(has))

    def _written(self, left: list[PermitHandover]) -> bool:
        try:
            passed = self._limits.hand_over(left)
        except DriverUnavailableError as error:
            with self._lock:
                self._left[:0] = left
            logger.warning("%d permits wait for the broker: %s", len(left), error)
            return False
        except DriverError:
            logger.exception(
                "%d permits could not be given back, and end with their leases", len(left)
            )
            return True
        with self._lock:
            if len(self._crowded) > MOST_CROWDED:
                self._crowded.clear()
            self._crowded |= passed.crowded
            for token in passed.without:  # it runs without one, and has none to pass on
                self._forget(token)
        self._call(passed.called)
        return True

    def _forget(self, token: str) -> None:
        has = self._has.pop(token, None)
        for some in self._spare.values():
            for one in [one for one in some if one.holder.token == token]:
                some.remove(one)
                has = one
        if has is not None:
            self._leave(has)

    def _call(self, job_ids: list[str]) -> None:
        try:
            if job_ids:
                self._driver.hasten(job_ids)
        except DriverError as error:  # each looks again by itself
            logger.warning(
                "%d jobs that wait for a permit could not be called: %s", len(job_ids), error
            )

    # --- what a job wants -------------------------------------------------------------------------
    def _wanted(self, job: ReservedJob) -> PermitRequest | None:
        """The permit that a job will ask for first, if that can be said here."""
        try:
            message = loads(job.payload)
            headers = message["headers"]
            task = self._app.tasks[headers["task"]]
            middleware = _middleware(task)
            if middleware is None or _is_different(headers.get(HEADER)):
                return None
            asking = Asking(self._app, task.name, (), {})
            if middleware.by is not None:
                if MARK in message["body"]:  # it is read as something else there
                    return None
                args, kwargs, _ = json.loads(message["body"])
                asking = asking._replace(args=tuple(args), kwargs=kwargs)
            return PermitRequest(
                middleware.key_for(asking),
                middleware.at_most,
                Holder(job.lease.token, job.id, task.name),
            )
        except Exception:  # noqa: BLE001  whatever is wrong with it, others say it better
            return None


def _middleware(task: Any) -> WithoutOverlapping | None:
    """The first middleware of a task, if it is one whose permits can be taken here."""
    options = getattr(task, "options", None)
    first = options.middleware[0] if options is not None and options.middleware else None
    usable = type(first) is WithoutOverlapping and not callable(first.by) and task.acks_late
    return first if usable else None


def _is_different(baton: Any) -> bool:
    """Whether a job comes for something else than to be run with its task's middlewares."""
    if not isinstance(baton, dict):
        return False
    deadline, override = baton.get("deadline"), baton.get("override")
    is_over = isinstance(deadline, (int, float)) and deadline <= clock.now()
    return (
        is_over or "verdict" in baton or (isinstance(override, dict) and "middleware" in override)
    )
