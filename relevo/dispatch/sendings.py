"""What a job on its way is to a broker, the failed store, batches and the schedule.

A `Sending` is an entry of the outbox, or a job that is handed in without one.
"""

from __future__ import annotations

import json
from dataclasses import replace

from relevo import clock
from relevo.drivers import message_codec
from relevo.drivers.values import NewJob
from relevo.job import error_report, membership
from relevo.store import batch_counts
from relevo.store.batches import MemberEnd
from relevo.store.failed import FailedJob
from relevo.store.outbox import Sending
from relevo.store.schedules import RunEnd


def new_job(each: Sending) -> NewJob:
    """The job as a driver takes it."""
    available_at = clock.now() + each.delay if each.delay else each.available_at
    # The headers are parsed only if they may matter here: a batch sends thousands of jobs.
    headers = (
        message_codec.headers_of(each.payload)
        if each.unique_key or '"fair"' in each.payload
        else {}
    )
    unique = message_codec.unique_of(headers) if each.unique_key else {}
    conflict = (
        message_codec.conflict_of(unique) if unique and unique.get("key") == each.unique_key else {}
    )
    return NewJob(
        queue=each.queue,
        payload=each.payload,
        id=each.uuid,
        priority=each.priority,
        available_at=available_at,
        unique_key=each.unique_key,
        fair_key=message_codec.fair_key_of(headers),
        **conflict,
    )


def marked(each: Sending) -> Sending:
    """The entry with the header that makes the recorder store its end as a receipt."""
    message = json.loads(each.payload)
    message["headers"] = {**(message.get("headers") or {}), membership.OUTBOX_HEADER: True}
    return replace(each, payload=message_codec.dumps(message))


def ends(each: Sending, error: Exception) -> tuple[MemberEnd, ...]:
    """What it means to batches and chords that a job has failed before it was put."""
    headers, body = message_codec.headers_of(each.payload), message_codec.body_of(each.payload)
    found = membership.ends_of_message(headers, body, each.uuid, batch_counts.FAILED)
    return tuple(replace(end, error=error_report.title(error)) for end in found)


def run_end(each: Sending) -> RunEnd | None:
    """What it means to a run of the schedule that its job has failed before it was put."""
    return membership.run_end(
        message_codec.headers_of(each.payload), each.uuid, batch_counts.FAILED
    )


def refused(each: Sending, error: Exception) -> FailedJob:
    """The entry of the failed store for a job that its broker has refused."""
    headers = message_codec.loads(each.payload).get("headers") or {}
    return FailedJob(
        uuid=each.uuid,
        queue=each.queue,
        connection=each.connection,
        payload=each.payload,
        task=headers.get("task"),
        exception=type(error).__name__,
        message=str(error),
        failed_at=clock.now(),
    )
