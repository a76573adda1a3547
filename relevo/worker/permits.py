"""The admission of a worker whose tasks need permits (`WithoutOverlapping`).

The main process takes permits for many jobs in one step when they are reserved, and gives them back
in another.

    reserve -> admit: take_free, one step for all jobs
                 -> granted: the job starts under its permit
                 -> not granted: the job waits here while all places of the pool are busy; then it
                    is tried once more, and starts to ask for itself
    a job has ended -> its permit is spare
                 -> the next job of the same key here starts under it (the next flush says so)
                 -> or the next flush gives it back

A task whose first middleware is `WithoutOverlapping` then needs no round trip of its child. The
middleware still works by itself for the rest: keys at which jobs wait, a `by` that is a callable
(the project's code must not run in this process), middlewares given at the dispatch.

**Never more than n at once.** A permit is handed over only when the process that ran the job has
said that it ended. The broker's books have the permit under one of the two jobs all the time, since
the lease keeper calls `flush` before it ends any lease. So whatever happens in between, a permit
ends with the lease that it names:

| the worker dies after               | the permit                                                 |
|-------------------------------------|------------------------------------------------------------|
| it was taken, before the job starts | ends with that job's lease                                 |
| the answer to the taking is lost    | is taken again, here or by the job itself: its holder has  |
|                                     | it                                                         |
| its job ended, before `flush`       | ends with that job's lease, which nobody extends           |
| it was handed over, before `flush`  | the same; the job that runs under it dies then, too        |
| `flush`, its answer lost            | is written again; what was handed over is found gone, and  |
|                                     | its new holder has one already or takes a free one         |
| `flush`, before the lease is ended  | is the other job's, or free                                |

A waiting job is overtaken for no longer than a flush takes (20 ms under load): where jobs wait at a
key, no permit is taken here and none is handed over.
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

# How many keys at which jobs wait are remembered. To forget one costs a call of the broker.
MOST_CROWDED = 10_000


class ReservedIdentity(NamedTuple):
    """The `JobIdentity` of a reserved job: what its permit's key is made of."""

    app: Any
    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def needed(app: Any) -> bool:
    """Whether the permits of any task of the app can be taken here."""
    return any(_middleware(task) is not None for task in app.tasks.values())


class PermitAdmission(Admission):
    """The permits of the jobs that this process holds at one broker."""

    def __init__(self, app: Any, driver: Driver) -> None:
        self._app, self._driver, self._limits = app, driver, limit_context.limits_for(driver)
        # by the token of the lease: permits that jobs want, and that they have
        self._wanted: dict[str, PermitRequest] = {}
        self._granted: dict[str, PermitRequest] = {}
        # by key: permits of jobs that have ended, for the next job here
        self._spare: defaultdict[str, list[PermitRequest]] = defaultdict(list)
        # what the next flush tells the broker
        self._handovers: list[PermitHandover] = []
        # keys at which jobs wait
        self._crowded: set[str] = set()
        self._lock, self._writing = threading.Lock(), threading.Lock()

    # --- the consuming loop -----------------------------------------------------------------------
    def admit(self, jobs: Sequence[ReservedJob]) -> None:
        wanted = [one for job in jobs if (one := self._request_for(job)) is not None]
        with self._lock:
            self._wanted.update((one.holder.token, one) for one in wanted)
        self._take(wanted)

    def next(self, jobs: deque[ReservedJob], idle: bool) -> ReservedJob | None:
        job = self._pop_first(jobs, idle=False)
        if job is None and idle and jobs:
            # Not left to the job itself: before it asks, the next job to be reserved here would
            # have taken its permit.
            self._take([one for job in jobs if (one := self._wanted.get(job.lease.token))])
            job = self._pop_first(jobs, idle=False) or self._pop_first(jobs, idle=True)
        return job

    def _take(self, wanted: Sequence[PermitRequest]) -> None:
        """Take the free permits among these, in one step."""
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
                    and self._wanted.pop(one.holder.token, None) is not None
                ):
                    self._granted[one.holder.token] = one
                    self._crowded.discard(one.key)

    def _pop_first(self, jobs: deque[ReservedJob], idle: bool) -> ReservedJob | None:
        """Remove and return the first job that may start."""
        with self._lock:
            for at, job in enumerate(jobs):
                if self._may_start(job.lease.token, idle):
                    del jobs[at]
                    return job
        return None

    def _may_start(self, token: str, idle: bool) -> bool:
        wanted = self._wanted.get(token)
        if wanted is None:
            return True
        spare = self._spare.get(wanted.key)
        if not spare and not idle and wanted.key not in self._crowded:
            return False
        del self._wanted[token]
        if spare:
            self._handovers.append(PermitHandover(spare.pop(), wanted.holder))
            self._granted[token] = wanted
        return True

    def permit_of(self, token: str) -> str | None:
        permit = self._granted.get(token)
        return permit.key if permit is not None else None

    # --- any thread -------------------------------------------------------------------------------
    def body_ended(self, token: str) -> None:
        with self._lock:
            permit = self._granted.pop(token, None)
            if permit is not None and permit.key in self._crowded:
                self._give_back(permit)
            elif permit is not None:
                self._spare[permit.key].append(permit)

    def removed(self, token: str) -> None:
        with self._lock:
            self._wanted.pop(token, None)
            if permit := self._granted.pop(token, None):
                self._give_back(permit)

    def flush(self) -> bool:
        with self._writing:
            with self._lock:
                for permit in [permit for some in self._spare.values() for permit in some]:
                    self._give_back(permit)
                self._spare.clear()
                handovers, self._handovers = self._handovers, []
            return not handovers or self._write(handovers)

    def _give_back(self, permit: PermitRequest) -> None:
        self._handovers.append(PermitHandover(permit))

    def _write(self, handovers: list[PermitHandover]) -> bool:
        """Tell the broker of these. Returns False when it is away."""
        try:
            result = self._limits.hand_over(handovers)
        except DriverUnavailableError as error:
            with self._lock:
                self._handovers[:0] = handovers
            logger.warning("%d permits wait for the broker: %s", len(handovers), error)
            return False
        except DriverError:
            logger.exception(
                "%d permits could not be given back, and end with their leases", len(handovers)
            )
            return True
        with self._lock:
            if len(self._crowded) > MOST_CROWDED:
                self._crowded.clear()
            self._crowded |= result.crowded
            for token in result.without:  # its job runs without a permit, and has none to hand over
                self._forget(token)
        self._wake(result.called)
        return True

    def _forget(self, token: str) -> None:
        permit = self._granted.pop(token, None)
        for some in self._spare.values():
            for one in [one for one in some if one.holder.token == token]:
                some.remove(one)
                permit = one
        if permit is not None:
            self._give_back(permit)

    def _wake(self, job_ids: list[str]) -> None:
        try:
            if job_ids:
                self._driver.hasten(job_ids)
        except DriverError as error:  # each asks again by itself
            logger.warning(
                "%d jobs that wait for a permit could not be woken: %s", len(job_ids), error
            )

    # --- which permit a job wants -----------------------------------------------------------------
    def _request_for(self, job: ReservedJob) -> PermitRequest | None:
        """Return the permit that a job will ask for first, or None if only the job can say."""
        try:
            message = loads(job.payload)
            headers = message["headers"]
            task = self._app.tasks[headers["task"]]
            middleware = _middleware(task)
            if middleware is None or _runs_otherwise(headers.get(HEADER)):
                return None
            identity = ReservedIdentity(self._app, task.name, (), {})
            if middleware.by is not None:
                if MARK in message["body"]:  # a value that the child decodes (a date, a model)
                    return None
                args, kwargs, _ = json.loads(message["body"])
                identity = identity._replace(args=tuple(args), kwargs=kwargs)
            return PermitRequest(
                middleware.key_for(identity),
                middleware.at_most,
                Holder(job.lease.token, job.id, task.name),
            )
        except Exception:  # noqa: BLE001  whatever is wrong with the job, others report it
            return None


def _middleware(task: Any) -> WithoutOverlapping | None:
    """Return the first middleware of a task, if its permits can be taken here."""
    options = getattr(task, "options", None)
    first = options.middleware[0] if options is not None and options.middleware else None
    usable = type(first) is WithoutOverlapping and not callable(first.by) and task.acks_late
    return first if usable else None


def _runs_otherwise(baton: Any) -> bool:
    """Whether a job won't run its task's middlewares: too late, in its hook, or overridden."""
    if not isinstance(baton, dict):
        return False
    deadline, override = baton.get("deadline"), baton.get("override")
    is_late = isinstance(deadline, (int, float)) and deadline <= clock.now()
    return (
        is_late or "verdict" in baton or (isinstance(override, dict) and "middleware" in override)
    )
