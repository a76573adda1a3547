"""The failed store's record of a job that has failed for good, made from its request.

Jobs whose message can't be run at all have no request: `relevo/worker/unrunnable.py` makes their
records.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from relevo import clock
from relevo.drivers import message_codec
from relevo.job import error_report, membership, payload, redaction
from relevo.job.payload import Baton
from relevo.store.failed import FailedJob


def connection_of(app: Any) -> str:
    """The name of the connection that this app's workers take jobs from."""
    settings = getattr(app, "settings", None)
    return str(settings.queue_connection) if settings is not None else "default"


def from_request(request: Any, error: BaseException, traceback: str) -> FailedJob:
    """The record of a job whose last attempt ended in `error`.

    `request`: Celery's request in the worker's main process.
    """
    context = request._context  # noqa: SLF001  Celery offers no other access to it
    baton = payload.baton_of(context)
    attempt = int(context.retries) + 1
    if baton.verdict is None:  # a job with a verdict has brought its error along
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
    """The arguments of a message as text for people, redacted."""
    return redaction.redacted_reprs(app, name, headers.get("argsrepr"), headers.get("kwargsrepr"))


def _payload(message: Any) -> str:
    job = getattr(message, "job", None)
    if job is not None:
        return str(job.payload)
    return message_codec.dumps(message.serializable()) if hasattr(message, "serializable") else ""


def _tags(task: Any, context: Any, baton: Baton) -> tuple[str, ...]:
    if baton.tags is None and getattr(task, "options", None) is not None:
        with suppress(Exception):  # a `tags` callable that raises must not cost the record
            return payload.tags(task, tuple(context.args or ()), context.kwargs or {})
    return tuple(map(str, baton.tags or ()))
