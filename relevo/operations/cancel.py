"""Cancels jobs wherever they are. Cancelled jobs leave the broker, so a worker that starts later
obeys, too.

    waiting    pending or delayed: held, so that no worker starts them; recorded as cancelled; then
               deleted
    reserved   deleted from the broker while their worker has them, so no attempt follows this one.
               Then the workers are told: a job that has not started is dropped; a running one goes
               on to its end, or is killed with `terminate`

If the cancelling process dies in between, the held jobs come back as they were. Cancelling them
again does the rest.

Celery's own `revoke` leaves the job in the broker and puts its id into the memory of the running
workers: a worker that starts later runs it, and the others refuse the id for three hours, also when
the job is retried on purpose.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from celery.app.task import Context
from sqlalchemy import Connection

from relevo.dispatch.delivery import delivery_of
from relevo.drivers import message_codec
from relevo.drivers.contract import Driver, HeldJob
from relevo.drivers.values import JobView, State
from relevo.job.outcome import CANCELLED_BY_HAND
from relevo.recording import endings
from relevo.store import history, outcomes
from relevo.store.outbox import Sending
from relevo.store.outcomes import Ending
from relevo.store.store import Store

logger = logging.getLogger(__name__)

#: The remote control command that tells the workers of cancelled jobs.
COMMAND = "cancel_jobs"
#: Seconds to wait for the workers' answers.
ANSWER_SECONDS = 1.0
# Jobs that are cancelled in one step: held together, recorded in one transaction, deleted together.
PORTION = 500
# Seconds for which waiting jobs are held while their end is recorded.
HOLD_SECONDS = 60.0
# The pages of workers show this name as the worker that holds them.
HOLDER = "cancel"


@dataclass(frozen=True, slots=True)
class CancelResult:
    """Jobs that were cancelled: `withdrawn` before they could run, `killed` while they ran, or
    still `running` to the end of their attempt.
    """

    withdrawn: list[JobView] = field(default_factory=list)
    killed: list[JobView] = field(default_factory=list)
    running: list[JobView] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.withdrawn) + len(self.killed) + len(self.running)


# --- operations -----------------------------------------------------------------------------------
def cancel(
    app: Any, driver: Driver, store: Store, ids: Iterable[str], *, terminate: bool = False
) -> CancelResult:
    """Cancel the waiting and reserved jobs with these ids. `terminate` kills the running ones.

    Raises DriverError.
    """
    wanted, done = list(dict.fromkeys(ids)), CancelResult()
    for start in range(0, len(wanted), PORTION):
        _cancel_portion(app, driver, store, wanted[start : start + PORTION], terminate, done)
    return done


def delete(app: Any, driver: Driver, store: Store, ids: Iterable[str]) -> int:
    """Delete waiting jobs and their history. Reserved jobs stay. Returns how many were deleted.

    Raises DriverError.
    """

    def forget(jobs: Sequence[JobView]) -> None:
        history.forget(store, [job.id for job in jobs])
        count_as_cancelled(app, store, jobs)

    return len(withdraw(driver, list(ids), forget))


def withdraw(
    driver: Driver, ids: Sequence[str], record: Callable[[Sequence[JobView]], None]
) -> list[JobView]:
    """Take waiting jobs out of the broker after `record` has recorded them. Returns them."""
    held = driver.hold(ids, HOLD_SECONDS, HOLDER)
    jobs = [job.was for job in held]
    try:
        record(jobs)
    except BaseException:  # the store is away, or the user interrupts: the jobs wait again
        _release_held(driver, held)
        raise
    driver.ack([job.lease for job in held])
    return jobs


def count_as_cancelled(app: Any, store: Store, jobs: Sequence[JobView]) -> set[str]:
    """Record the end of deleted jobs in their batches, chords and runs of the schedule only.

    There they count as cancelled. Returns the ids of the callbacks that are handed in for that.
    """
    requests = (BrokerJobRequest(app, job) for job in jobs)
    ended = [ending for each in requests if (ending := endings.for_deletion(each)) is not None]
    return _write(app, store, ended) if ended else set()


# --- steps ----------------------------------------------------------------------------------------
def _cancel_portion(
    app: Any,
    driver: Driver,
    store: Store,
    ids: Sequence[str],
    terminate: bool,
    done: CancelResult,
) -> None:
    done.withdrawn.extend(withdraw(driver, ids, lambda jobs: _record(app, store, jobs)))
    reserved = [job for job in driver.find(ids) if job.state is State.RESERVED]
    if reserved:
        driver.delete([job.id for job in reserved])
        killed = _tell_workers(app, [job.id for job in reserved], terminate)
        done.killed.extend(job for job in reserved if job.id in killed)
        running = [job for job in reserved if job.id not in killed]
        done.running.extend(running)
        _record(app, store, [job for job in running if not _has_ended(store, job)])


def _record(app: Any, store: Store, jobs: Sequence[JobView]) -> None:
    requests = [BrokerJobRequest(app, job) for job in jobs]
    ended = [
        ending
        for each in requests
        if (ending := endings.for_cancellation(each, CANCELLED_BY_HAND)) is not None
    ]
    if ended:
        _write(app, store, ended)
    for each in requests:
        each.tell_backend()


def _write(app: Any, store: Store, ended: Sequence[Ending]) -> set[str]:
    """Write ends, and hand in the callbacks of batches that end with them. Returns their ids."""
    delivery, handed_in = delivery_of(app), set[str]()

    def deliver(connection: Connection, sendings: Sequence[Sending]) -> None:
        handed_in.update(each.uuid for each in sendings)
        delivery.hand_in(connection, sendings)

    outcomes.write(store, ended, deliver)
    delivery.after_commit(app.settings.queue_connection)
    return handed_in


def _has_ended(store: Store, job: JobView) -> bool:
    """Whether a reserved job's end is recorded already, and only its ack was outstanding."""
    found = history.find(store, job.id)
    return found is not None and found.ended_at >= job.created_at


def _tell_workers(app: Any, ids: Sequence[str], terminate: bool) -> set[str]:
    """Tell every worker which jobs are cancelled. Returns the ids of those that were killed."""
    arguments = {"ids": list(ids), "terminate": terminate}
    try:
        replies = app.control.broadcast(
            COMMAND, arguments=arguments, reply=True, timeout=ANSWER_SECONDS
        )
    except Exception:  # the jobs are cancelled all the same: they are not in the broker any more
        logger.exception("the workers could not be told of %d cancelled jobs", len(ids))
        return set()
    answers = [
        answer
        for reply in replies or []
        for answer in reply.values()
        if isinstance(answer, Mapping)
    ]
    return {str(id_) for answer in answers for id_ in answer.get("killed") or ()}


def _release_held(driver: Driver, jobs: Sequence[HeldJob]) -> None:
    for attempts, each in groupby(sorted(jobs, key=_attempts), key=_attempts):
        driver.release([job.lease for job in each], attempts=attempts)


def _attempts(job: HeldJob) -> int:
    return job.was.attempts


class BrokerJobRequest:
    """A job in the broker, with the attributes of a Request that recording/endings.py reads."""

    time_start = None

    def __init__(self, app: Any, job: JobView) -> None:
        self.app, self.id, self._job = app, job.id, job
        headers = message_codec.headers_of(job.payload)
        self.type = str(headers.get("task") or "?")
        self.delivery_info = {"routing_key": job.queue}
        # endings.py counts the attempt that ends. A waiting job is in no attempt.
        begun = 0 if job.state is State.RESERVED else 1
        self.request_dict = {
            **headers,
            "retries": _as_int(headers.get("retries")) - begun,
            "properties": {},
        }
        self._payload = message_codec.body_of(job.payload)

    def tell_backend(self) -> None:
        """Store the result "revoked", for callers that wait for it and for Celery's own chords."""
        args, kwargs, embed = self._payload
        request = Context(
            {**self.request_dict, **embed, "id": self.id, "args": args, "kwargs": kwargs}
        )
        try:
            self.app.backend.mark_as_revoked(
                self.id, CANCELLED_BY_HAND, request=request, store_result=not request.ignore_result
            )
        except Exception:  # the job is cancelled, whatever the result backend says
            logger.exception(
                "%s[%s] was cancelled, and the result backend could not be told", self.type, self.id
            )


def _as_int(given: Any) -> int:
    return given if isinstance(given, int) else 0
