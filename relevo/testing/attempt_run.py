"""Run one attempt of a recorded job in this process, as a worker's child would.

Celery's own tracer runs it, with the request that a worker would have made of the message. So
middleware, the `failed` hook, callbacks, chains and chords do what they do in a worker. The message
is marked as leased: a retry then ends the attempt with an order to release the job
(relevo/execution/requeue.py) and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from celery.app.trace import build_tracer
from celery.exceptions import Retry as CeleryRetry

from relevo import clock
from relevo.drivers.message_codec import LEASED
from relevo.errors import UnknownTaskError, did_you_mean
from relevo.execution import requeue
from relevo.job.outcome import Cancelled, Completed, Failed, Outcome, Released, Retry
from relevo.testing import patching
from relevo.testing.attempt import Attempt
from relevo.testing.dispatched import Dispatched


def run(
    app: Any, record: Dispatched, children: Callable[[str], tuple[Dispatched, ...]]
) -> tuple[Attempt, Any]:
    """Return the attempt, and the value or exception that Celery's tracer ended with.

    `children` returns the jobs that a job has dispatched, by the job's id.
    """
    if record.expires_at is not None and record.expires_at <= clock.now():
        return Attempt(record, "REVOKED", None), None
    if (task := app.tasks.get(record.task)) is None:
        hint = did_you_mean(record.task, app.tasks)
        raise UnknownTaskError(f"can't run {record.task!r}: no task has this name{hint}")
    before = len(children(record.id))
    args, kwargs, _ = record.body
    notes = patching.progress.setdefault(record.id, [])
    try:
        traced = build_tracer(task.name, task, app=app)(record.id, args, kwargs, request(record))
    finally:
        patching.progress.pop(record.id, None)
    state, ended = (
        (traced.info.state, traced.info.retval) if traced.info else ("SUCCESS", traced.retval)
    )
    attempt = Attempt(
        record, state, outcome(record, state, ended), tuple(notes), children(record.id)[before:]
    )
    return attempt, ended


def request(record: Dispatched) -> dict[str, Any]:
    """The request of a worker that has received the job's message."""
    args, kwargs, embed = record.body
    info = {
        "exchange": "",
        "routing_key": record.queue,
        "priority": record.priority,
        "redelivered": False,
    }
    return {
        **record.message,
        **embed,
        "args": args,
        "kwargs": kwargs,
        "delivery_info": info,
        "properties": {"correlation_id": record.id, LEASED: True},
        "correlation_id": record.id,
        "hostname": "fake",
        "is_eager": False,
    }


def outcome(record: Dispatched, state: str, ended: Any) -> Outcome | None:
    """How the attempt ended; None where Relevo has no outcome for it."""
    match state:
        case "SUCCESS":
            return ended if isinstance(ended, Cancelled) else Completed(ended)
        case "FAILURE":
            return Failed(ended)
        case "RETRY":
            again = retries(ended) > record.attempt - 1
            return Retry(wait(ended), ended.exc or ended) if again else Released(wait(ended))
    return None


def retries(ended: CeleryRetry) -> int:
    """How many attempts have ended, as the job's next message says."""
    return int(
        ended.retries if isinstance(ended, requeue.ReleaseRetry) else ended.sig.options["retries"]
    )


def wait(ended: CeleryRetry) -> float:
    """Seconds until the next attempt."""
    when = ended.when
    return float(clock.instant(when) - clock.now() if isinstance(when, datetime) else when or 0)


def released(record: Dispatched, ended: Any) -> Dispatched | None:
    """The job as it waits for its next attempt, if the ended attempt asked for one."""
    if isinstance(ended, requeue.ReleaseRetry):
        return record.released(requeue.header_changes(ended.retries, ended.baton), wait(ended))
    return (
        record.released({"retries": record.attempt - 1}, 0)
        if getattr(ended, "requeue", False)
        else None
    )
