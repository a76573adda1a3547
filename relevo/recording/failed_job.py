"""A job that has failed for good, for the failed store: made from a request, or from a message
nobody can run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from relevo import clock, events
from relevo.drivers import message_codec
from relevo.drivers.values import ReservedJob
from relevo.errors import UndeliverableError, UnknownTaskError, did_you_mean
from relevo.events import Event, JobEvent
from relevo.job import error_report, membership, payload, redaction
from relevo.job.payload import HEADER, Baton
from relevo.recording import recorder
from relevo.store import batch_counts
from relevo.store.failed import FailedJob
from relevo.store.outcomes import Ending

logger = logging.getLogger(__name__)


def connection_of(app: Any) -> str:
    """The name of the connection a worker of this app takes its jobs from."""
    settings = getattr(app, "settings", None)
    return str(settings.queue_connection) if settings is not None else "default"


def from_request(request: Any, error: BaseException, traceback: str) -> FailedJob:
    """The failed job of a request (of the worker's main process) whose last attempt ended in
    `error`.
    """
    context = request._context  # noqa: SLF001  Celery's own, for just this
    baton = payload.baton_of(context)
    attempt = int(context.retries) + 1
    if baton.verdict is None:  # with one, the error came with the job
        baton = baton.with_error(attempt, error, traceback)
    return FailedJob(
        uuid=str(request.id),
        task=request.task.name,
        connection=connection_of(request.app),
        queue=str((request.delivery_info or {}).get("routing_key") or ""),
        payload=_payload(request.message),
        exception=error_report.type_name(error),
        message=error_report.message(error),
        failed_at=clock.now(),
        tags=_tags(request.task, context, baton),
        attempts=attempt,
        errors=tuple(dict(each) for each in baton.errors),
        batch=next(
            iter(membership.batch_ids(request.request_dict, membership.embedded(request))), None
        ),
        origin=baton.origin,
        arguments=argument_texts(request.app, request.task.name, request.request_dict),
    )


def argument_texts(app: Any, name: str | None, headers: Mapping[str, Any]) -> str:
    """What the headers of a message say of its arguments, without what nobody sees."""
    return redaction.redacted_reprs(app, name, headers.get("argsrepr"), headers.get("kwargsrepr"))


def from_message(app: Any, job: ReservedJob, reason: str) -> FailedJob:
    """The failed job of a message that can't be run."""
    headers = message_codec.headers_of(job.payload)
    name = headers.get("task") if isinstance(headers.get("task"), str) else None
    error: Exception = UndeliverableError(reason)
    if name is not None and name not in app.tasks:
        error = UnknownTaskError(f"no task named {name!r}{did_you_mean(name, app.tasks)}")
    baton = _baton(headers)
    return FailedJob(
        uuid=job.id,
        task=name,
        connection=connection_of(app),
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
        arguments=argument_texts(app, name, headers),
    )


def keeper(app: Any) -> Callable[[ReservedJob, str, Callable[[list[str]], None]], bool]:
    """What the drivers give messages to that can't be run, in a worker of `app`."""

    def keep(job: ReservedJob, reason: str, done: Callable[[list[str]], None]) -> bool:
        recording = recorder.current()
        if recording is None:
            return False
        failure = from_message(app, job, reason)
        headers = message_codec.headers_of(job.payload)
        ends = membership.ends_of_message(
            headers, message_codec.body_of(job.payload), job.id, batch_counts.FAILED
        )
        sent = job.id if headers.get(membership.OUTBOX_HEADER) else None
        run = membership.run_end(headers, job.id, batch_counts.FAILED)
        recording.add(
            Ending(failure=failure, listed=False, members=ends, outbox_id=sent, run=run),
            done,
            job.lease.token,
        )
        events.emit(
            JobEvent(
                Event.FAILED,
                job.id,
                failure.task,
                job.queue,
                job.attempts,
                error=f"{failure.exception}: {failure.message}",
                rescues=job.rescues,
            )
        )
        return True

    return keep


def _payload(message: Any) -> str:
    job = getattr(message, "job", None)
    if job is not None:
        return str(job.payload)
    return message_codec.dumps(message.serializable()) if hasattr(message, "serializable") else ""


def _tags(task: Any, context: Any, baton: Baton) -> tuple[str, ...]:
    if baton.tags is None and getattr(task, "options", None) is not None:
        with suppress(Exception):  # tags that can't be made are no reason to lose the record
            return payload.tags(task, tuple(context.args or ()), context.kwargs or {})
    return tuple(map(str, baton.tags or ()))


def _baton(headers: Mapping[str, Any]) -> Baton:
    sent = headers.get(HEADER)
    return payload.parse(sent) if isinstance(sent, dict) else Baton()


def reset_payload(job: FailedJob) -> str:
    """The payload of a failed job as it is put back: with a fresh count, and with where it came
    from.
    """
    try:
        sent = _baton(message_codec.headers_of(job.payload))
        baton = Baton(
            override=sent.override,
            tags=sent.tags,
            origin=job.id,
            unique=sent.unique,
            fair=sent.fair,
        )
        return message_codec.repack(
            job.payload, {"retries": 0, "expires": None, HEADER: baton.header()}
        )
    except Exception:  # noqa: BLE001  what can't be read goes back as it is
        return job.payload
