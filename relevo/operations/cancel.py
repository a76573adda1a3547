"""Cancel jobs, wherever they are. A worker that starts tomorrow obeys: what was cancelled is in the
broker no more.

    waiting (pending, delayed)  -> held, so that no worker starts it; recorded as cancelled; and only then forgotten
    reserved                    -> taken out of the broker under its worker: whatever comes of this attempt, there is no
                                   other, its worker may die or ask for a retry. The workers are
                                   told: what has not started doesn't; what runs goes on to its end,
                                   or is killed if that is asked for

Whoever cancels may die at any point: what he held comes back as it was, and is cancelled by who
asks again.

Celery's own `revoke` leaves the job where it is and puts its id into the memory of the workers that
hear it: one that is started later runs it, and one that heard it refuses the id for three hours,
also when it is retried on purpose.
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

#: What the workers are told by, and for how many seconds their answers are waited for.
COMMAND, PATIENCE = "cancel_jobs", 1.0
# So many at a time: each portion is held, is one transaction in the store, and goes.
PORTION = 500
# For so long (seconds) what waits is held while its end is recorded; what the worker pages show as
# its worker.
HELD, BY = 60.0, "cancel"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What came of it: `withdrawn` before they could run, `killed` in the midst, or `running` on to
    their end.
    """

    withdrawn: list[JobView] = field(default_factory=list)
    killed: list[JobView] = field(default_factory=list)
    running: list[JobView] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.withdrawn) + len(self.killed) + len(self.running)


def cancel(
    app: Any, driver: Driver, store: Store, ids: Iterable[str], *, terminate: bool = False
) -> Cancelled:
    """Cancel the living jobs with these ids. `terminate`: kill those that run. Raises DriverError."""
    wanted, done = list(dict.fromkeys(ids)), Cancelled()
    for start in range(0, len(wanted), PORTION):
        _portion(app, driver, store, wanted[start : start + PORTION], terminate, done)
    return done


def delete(app: Any, driver: Driver, store: Store, ids: Iterable[str]) -> int:
    """Delete jobs that wait, without a trace; none that somebody holds. Returns how many. Raises
    DriverError.
    """

    def forget(jobs: Sequence[JobView]) -> None:
        history.forget(store, [job.id for job in jobs])
        counted(app, store, jobs)

    return len(taken_out(driver, list(ids), forget))


def _portion(
    app: Any, driver: Driver, store: Store, ids: Sequence[str], terminate: bool, done: Cancelled
) -> None:
    done.withdrawn.extend(taken_out(driver, ids, lambda jobs: _record(app, store, jobs)))
    held = [job for job in driver.find(ids) if job.state is State.RESERVED]
    if held:
        driver.delete([job.id for job in held])
        killed = _tell(app, [job.id for job in held], terminate)
        done.killed.extend(job for job in held if job.id in killed)
        running = [job for job in held if job.id not in killed]
        done.running.extend(running)
        _record(app, store, [job for job in running if not _has_ended(store, job)])


def taken_out(
    driver: Driver, ids: Sequence[str], record: Callable[[Sequence[JobView]], None]
) -> list[JobView]:
    """Take what waits out of the broker, once it is recorded. Returns it, as it was."""
    waiting = driver.hold(ids, HELD, BY)
    jobs = [job.was for job in waiting]
    try:
        record(jobs)
    except BaseException:  # the store is away, or somebody has had enough: they wait again
        _let_go(driver, waiting)
        raise
    driver.ack([job.lease for job in waiting])
    return jobs


def _record(app: Any, store: Store, jobs: Sequence[JobView]) -> None:
    waiting = [Waiting(app, job) for job in jobs]
    ended = [
        ending
        for each in waiting
        if (ending := endings.for_cancellation(each, CANCELLED_BY_HAND)) is not None
    ]
    if ended:
        _written(app, store, ended)
    for each in waiting:
        each.tell_backend()


def _has_ended(store: Store, job: JobView) -> bool:
    """Whether its end was recorded, and only its ack was still on its way."""
    found = history.find(store, job.id)
    return found is not None and found.ended_at >= job.created_at


def _tell(app: Any, ids: Sequence[str], terminate: bool) -> set[str]:
    """Tell every worker. Returns the jobs that one says it has killed."""
    arguments = {"ids": list(ids), "terminate": terminate}
    try:
        answers = (
            app.control.broadcast(COMMAND, arguments=arguments, reply=True, timeout=PATIENCE) or []
        )
    except Exception:  # it holds without: nobody runs them again
        logger.exception("the workers could not be told of %d cancelled jobs", len(ids))
        return set()
    said = [answer for each in answers for answer in each.values() if isinstance(answer, Mapping)]
    return {str(id_) for answer in said for id_ in answer.get("killed") or ()}


def _let_go(driver: Driver, jobs: Sequence[HeldJob]) -> None:
    for attempts, each in groupby(sorted(jobs, key=_attempts), key=_attempts):
        driver.release([job.lease for job in each], attempts=attempts)


def _attempts(job: HeldJob) -> int:
    return job.was.attempts


def counted(app: Any, store: Store, jobs: Sequence[JobView]) -> set[str]:
    """Jobs are deleted without a trace: for the batches and chords that they are members of they
    were cancelled.

    So they were for the schedule: the run of an entry is shown with an end.

    Returns the ids of the jobs that were handed in for it: callbacks.
    """
    waiting = (Waiting(app, job) for job in jobs)
    ended = [ending for each in waiting if (ending := endings.for_deletion(each)) is not None]
    return _written(app, store, ended) if ended else set()


def _written(app: Any, store: Store, ended: Sequence[Ending]) -> set[str]:
    delivery, handed_in = delivery_of(app), set[str]()

    def deliver(connection: Connection, sendings: Sequence[Sending]) -> None:
        handed_in.update(each.uuid for each in sendings)
        delivery.hand_in(connection, sendings)

    outcomes.write(store, ended, deliver)  # with the callbacks of the batches that end with these
    delivery.after_commit(app.settings.queue_connection)
    return handed_in


class Waiting:
    """A job in the broker, with what a request would say of it: for the words that record an end."""

    time_start = None

    def __init__(self, app: Any, job: JobView) -> None:
        self.app, self.id, self._job = app, job.id, job
        headers = message_codec.headers_of(job.payload)
        self.type = str(headers.get("task") or "?")
        self.delivery_info = {"routing_key": job.queue}
        # An end counts the attempt it ends; one that waited was in none.
        begun = 0 if job.state is State.RESERVED else 1
        self.request_dict = {
            **headers,
            "retries": _whole(headers.get("retries")) - begun,
            "properties": {},
        }
        self._payload = message_codec.body_of(job.payload)

    def tell_backend(self) -> None:
        """Whoever waits for the result hears that there will be none; a chord counts it."""
        args, kwargs, embed = self._payload
        request = Context(
            {**self.request_dict, **embed, "id": self.id, "args": args, "kwargs": kwargs}
        )
        try:
            self.app.backend.mark_as_revoked(
                self.id, CANCELLED_BY_HAND, request=request, store_result=not request.ignore_result
            )
        except Exception:  # a result is not worth an error: the job is cancelled
            logger.exception(
                "%s[%s] was cancelled, and the result backend could not be told", self.type, self.id
            )


def _whole(given: Any) -> int:
    return given if isinstance(given, int) else 0
