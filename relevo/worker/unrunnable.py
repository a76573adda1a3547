"""Messages that no attempt can run: an unknown task, an unreadable body, a job rescued too often.

    transport: a message can't be delivered  ->  dead_letter_handler  ->  recorder: a failed job
                                                                      ->  then the ack

So the message leaves the queue only when the failed store has it, and can be retried from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relevo import clock, events
from relevo.drivers import message_codec
from relevo.drivers.values import ReservedJob
from relevo.errors import UndeliverableError, UnknownTaskError, did_you_mean
from relevo.events import Event, JobEvent
from relevo.job import error_report, membership, payload
from relevo.recording import failed_job
from relevo.store import batch_counts
from relevo.store.failed import FailedJob
from relevo.store.outcomes import Ending
from relevo.transport.context import WorkerContext
from relevo.transport.dead_letter import DeadLetterHandler


def from_message(app: Any, job: ReservedJob, reason: str) -> FailedJob:
    """The failed store's record of a message that can't be run, for `reason`."""
    headers = message_codec.headers_of(job.payload)
    name = headers.get("task") if isinstance(headers.get("task"), str) else None
    error: Exception = UndeliverableError(reason)
    if name is not None and name not in app.tasks:
        error = UnknownTaskError(f"no task named {name!r}{did_you_mean(name, app.tasks)}")
    baton = payload.baton_in(headers)
    return FailedJob(
        uuid=job.id,
        task=name,
        connection=failed_job.connection_of(app),
        queue=job.queue,
        payload=job.payload,
        exception=error_report.type_name(error),
        message=error_report.message(error),
        failed_at=clock.now(),
        tags=tuple(map(str, baton.tags or ())),
        attempts=job.attempts,
        origin=baton.origin,
        batch=next(
            iter(membership.batch_ids(headers, message_codec.body_of(job.payload)[2])), None
        ),
        errors=(
            *(dict(each) for each in baton.errors),
            error_report.report(job.attempts, error),
        ),
        arguments=failed_job.argument_texts(app, name, headers),
    )


def dead_letter_handler(app: Any, context: WorkerContext) -> DeadLetterHandler:
    """The function that the transport calls for an unrunnable message in a worker of `app`.

    It gets the job, the reason, and the ack to call with the lease's token once the record is
    committed. It returns False when the worker records no more.
    """

    def record(job: ReservedJob, reason: str, ack: Callable[[list[str]], None]) -> bool:
        recorder = context.recorder
        if recorder is None:
            return False
        failure = from_message(app, job, reason)
        recorder.add(_ending(job, failure), ack, job.lease.token)
        error = f"{failure.exception}: {failure.message}"
        events.emit(
            JobEvent(
                Event.FAILED,
                job.id,
                failure.task,
                job.queue,
                job.attempts,
                error=error,
                rescues=job.rescues,
            )
        )
        return True

    return record


def _ending(job: ReservedJob, failure: FailedJob) -> Ending:
    headers, body = message_codec.headers_of(job.payload), message_codec.body_of(job.payload)
    return Ending(
        failure=failure,
        listed=False,
        members=membership.ends_of_message(headers, body, job.id, batch_counts.FAILED),
        outbox_id=job.id if headers.get(membership.OUTBOX_HEADER) else None,
        run=membership.run_end(headers, job.id, batch_counts.FAILED),
    )
