"""The record of a job's end, made from its request in the worker's main process.

    request -> for_return, for_failure, for_cancellation … -> Ending -> recorder.add

Every job that ends comes through here: 10 µs a job here, and 40 µs to write it. So it reads what
Celery has at hand and makes nothing twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relevo import clock
from relevo.drivers.message_codec import DUE_AT
from relevo.job import membership, outcome, silenced
from relevo.job.payload import HEADER
from relevo.recording import failed_job
from relevo.store import batch_counts
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending

#: What history keeps: every job, failed and cancelled jobs, or nothing (and then no metrics).
ALL, FAILED, NONE = "all", "failed", "none"


def history_mode(app: Any) -> str:
    """What history keeps in this app: ALL, FAILED or NONE."""
    settings = getattr(app, "settings", None)
    return str(settings.history) if settings is not None else NONE


def for_completion(request: Any, ran: float | None) -> Ending | None:
    """The end of a completed job; None if nothing is to be recorded."""
    history = history_mode(request.app)
    if history == NONE:
        return _unlisted(request, batch_counts.COMPLETED)
    job = _job(request, Ended.COMPLETED, ran, "", _sent_tags(request))
    if silenced.is_silenced(request.app, request.type, job.tags):
        job = replace(job, silenced=True)
    return _of_batches(Ending(job, listed=history == ALL), request, batch_counts.COMPLETED)


def for_return(request: Any, result: Any, ran: float | None) -> Ending | None:
    """The end of a job whose attempt has returned: completed, or skipped before it ran.

    `ran`: seconds.
    """
    reason = outcome.cancel_reason(result)
    # For its batches a skipped job is completed, because links that follow it run.
    return (
        for_completion(request, ran)
        if reason is None
        else for_cancellation(request, reason, batch_counts.COMPLETED)
    )


def for_failure(request: Any, error: BaseException, traceback: str) -> Ending:
    """The end of a job that has failed for good."""
    failure = failed_job.from_request(request, error, traceback)
    if history_mode(request.app) == NONE:
        return _of_batches(Ending(failure=failure, listed=False), request, batch_counts.FAILED)
    job = _job(
        request,
        Ended.FAILED,
        _since_start(request),
        f"{failure.exception}: {failure.message}",
        failure.tags,
    )
    return _of_batches(Ending(job, failure), request, batch_counts.FAILED)


def for_cancellation(
    request: Any, reason: str, member: str = batch_counts.CANCELLED
) -> Ending | None:
    """The end of a job that was revoked or skipped, or has expired.

    `member`: how its batches count it. None if nothing is to be recorded.
    """
    if history_mode(request.app) == NONE:
        return _unlisted(request, member)
    job = _job(request, Ended.CANCELLED, None, reason, _sent_tags(request))
    return _of_batches(Ending(job), request, member)


def for_deletion(request: Any) -> Ending | None:
    """The end of a job that is deleted without a record: its batches count it as cancelled."""
    return _unlisted(request, batch_counts.CANCELLED)


def for_ignore(request: Any) -> Ending | None:
    """The end of a job that raised Celery's Ignore.

    Its batches count it as completed; as cancelled if links should have followed, since none will.
    """
    return _unlisted(
        request,
        batch_counts.CANCELLED
        if membership.embedded(request).get("chain")
        else batch_counts.COMPLETED,
    )


def for_replacement(request: Any) -> Ending | None:
    """The end of a job that another one replaces under its id.

    The other one is the member of its batches from now on, so only a schedule's run ends here.
    """
    run = membership.run_end(request.request_dict, request.id, batch_counts.COMPLETED)
    return None if run is None else Ending(listed=False, run=run)


def _unlisted(request: Any, state: str) -> Ending | None:
    """An end without history, for batches, receipts and runs; None if it matters to none."""
    ending = _of_batches(Ending(listed=False), request, state)
    return ending if ending.members or ending.outbox_id or ending.run else None


def _of_batches(ending: Ending, request: Any, state: str) -> Ending:
    headers = request.request_dict
    ending = replace(
        ending,
        run=membership.run_end(headers, request.id, ending.job.state if ending.job else state),
    )
    alone = (
        membership.MEMBER_HEADER not in headers
        and membership.OUTBOX_HEADER not in headers
        and not headers.get("group")
    )
    if alone and state == batch_counts.COMPLETED:
        return ending
    return replace(
        ending,
        members=membership.ends_of_request(request, state),
        outbox_id=membership.outbox_id(request),
    )


def _job(
    request: Any, state: Ended, ran: float | None, message: str, tags: tuple[str, ...]
) -> EndedJob:
    sent = request.request_dict
    return EndedJob(
        str(request.id),
        request.type,
        failed_job.connection_of(request.app),
        str(request.delivery_info.get("routing_key") or ""),
        state,
        int(sent.get("retries") or 0) + 1,
        clock.now(),
        _waited(request, sent["properties"]),
        ran,
        tags,
        failed_job.argument_texts(request.app, request.type, sent),
        message,
    )


def _waited(request: Any, properties: dict[str, Any]) -> float | None:
    """Seconds from when the job was due until it began. Two clocks may differ: at least 0."""
    due, began = properties.get(DUE_AT), request.time_start
    return max(0.0, began - due) if began and isinstance(due, (int, float)) else None


def _since_start(request: Any) -> float | None:
    return max(0.0, clock.now() - request.time_start) if request.time_start else None


def _sent_tags(request: Any) -> tuple[str, ...]:
    sent = request.request_dict.get(HEADER)
    tags = sent.get("tags") if isinstance(sent, dict) else None
    return tuple(map(str, tags)) if isinstance(tags, (list, tuple)) else ()
