"""Retries failed jobs, with their own arguments or with edited ones.

    claim in the store -> put into the brokers -> mark as retried

Each job goes to the queue and connection it came from, with its own id and a fresh count of
attempts. It carries the number of the failed job that it retries. Two callers that retry the same
job at the same time send it once. A job whose unique key another job holds by now is not sent, and
stays failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from relevo.dispatch import unique
from relevo.drivers import message_codec
from relevo.drivers.values import NewJob
from relevo.errors import OptionError
from relevo.job import payload, redaction
from relevo.job.payload import HEADER, Baton
from relevo.store import retry_claims
from relevo.store.failed import FailedJob, Filter
from relevo.store.store import Store

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]

# The representation of arguments in the headers has at most this many characters.
LONGEST_REPR = 1024
# A body of Celery's second protocol: arguments, keyword arguments, and callbacks, chain and chord.
_BODY_PARTS = 3


# --- operations -----------------------------------------------------------------------------------
def retry_failed(app: Any, store: Store, which: Filter) -> int:
    """Retry every failed job of a filter that was not retried yet. Returns how many."""
    # A job that fails again meanwhile has a higher number, and is not retried a second time.
    which = replace(which, newest=retry_claims.newest_number(store))
    total, after = 0, 0
    while True:
        name, jobs = retry_claims.claim(store, which, after=after)
        if not jobs:
            return total
        sent = _put_claimed(app, store, name, jobs)
        total, after = total + len(sent), jobs[-1].id


def retry_with_arguments(
    app: Any, store: Store, number: int, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bool:
    """Retry the failed job with this number, with these arguments.

    Returns False if it was not sent: it was retried before, or another job holds its unique key.
    """
    name, jobs = retry_claims.claim(store, Filter(ids=[number]))
    change = (with_arguments(app, job, args, kwargs) for job in jobs)
    return bool(_put_claimed(app, store, name, change))


def _put_claimed(app: Any, store: Store, name: str, jobs: Iterable[FailedJob]) -> list[int]:
    """Put the jobs of a claim. The claim on jobs that were not sent is given up."""
    try:
        sent = put_jobs(app, list(jobs))
        retry_claims.mark_retried(store, name, sent)
    finally:
        retry_claims.give_up(store, name)
    return sent


# --- into the brokers -----------------------------------------------------------------------------
def put_jobs(app: Any, jobs: Sequence[FailedJob]) -> list[int]:
    """Put failed jobs into their brokers. Returns the numbers of the jobs that are there now.

    Raises DriverError.
    """
    sent: list[int] = []
    for name, same in groupby(sorted(jobs, key=_connection), key=_connection):
        with app.connection_for_write(_url(app, name)) as connection:
            sent += _put(connection.default_channel, list(same))
    return sent


def _put(channel: Any, jobs: Sequence[FailedJob]) -> list[int]:
    if hasattr(channel, "driver"):
        placed = channel.driver.put([_new_job(job) for job in jobs])
        return [job.id for job, place in zip(jobs, placed, strict=True) if place.id == job.uuid]
    for job in jobs:  # a broker of kombu's own
        channel._put(job.queue, message_codec.loads(reset_payload(job)))  # noqa: SLF001
    return [job.id for job in jobs]


def _new_job(job: FailedJob) -> NewJob:
    text = reset_payload(job)
    new = NewJob(queue=job.queue, payload=text, id=job.uuid, unique_key=f"failed:{job.id}")
    try:
        given = message_codec.to_job(job.queue, message_codec.loads(text))
        # A member of a batch must not be left out as a duplicate, so it has no key of its task's.
        key = (given.unique_key if job.batch is None else None) or new.unique_key
        # `on_conflict` is left out: a retry replaces no other job.
        return replace(
            new,
            priority=given.priority,
            unique_key=key,
            unique_for=given.unique_for,
            fair_key=given.fair_key,
        )
    except Exception:  # noqa: BLE001  an unreadable message goes back as it is
        return new


def reset_payload(job: FailedJob) -> str:
    """The payload of a failed job for its retry: no attempts yet, and its number as the origin."""
    try:
        sent = payload.baton_in(message_codec.headers_of(job.payload))
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
    except Exception:  # noqa: BLE001  an unreadable message goes back unchanged
        return job.payload


def _connection(job: FailedJob) -> str:
    return job.connection


def _url(app: Any, name: str) -> str | None:
    connections = getattr(getattr(app, "settings", None), "connections", {})
    return connections[name].url if name in connections else None


# --- edited arguments -----------------------------------------------------------------------------
def arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in a job's message. Raises OptionError if they can't be read as JSON."""
    args, kwargs, _ = _body(text)
    return list(args), dict(kwargs)


def with_arguments(
    app: Any, job: FailedJob, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> FailedJob:
    """The failed job with these arguments. Redacted values that were not edited stay as they were.

    Raises OptionError if its message has no readable arguments.
    """
    *before, embed = _body(job.payload)
    args, kwargs = redaction.restore_hidden(app, job.task, (before[0], before[1]), (args, kwargs))
    message = message_codec.loads(job.payload)
    headers = dict(message.get("headers") or {})
    seen = redaction.redacted_arguments(app, job.task, args, kwargs)
    headers |= {
        "argsrepr": repr(tuple(seen[0]))[:LONGEST_REPR],
        "kwargsrepr": repr(seen[1])[:LONGEST_REPR],
    }
    if isinstance(headers.get(HEADER), dict):
        headers[HEADER] = _recompute(
            app, job, headers[HEADER], (tuple(before[0]), before[1]), (tuple(args), kwargs)
        )
    message |= {
        "headers": headers,
        "body": json.dumps([list(args), dict(kwargs), embed], ensure_ascii=False),
    }
    message["properties"] = {**message["properties"], "body_encoding": "utf-8"}
    message |= {"content-type": "application/json", "content-encoding": "utf-8"}
    return replace(job, payload=message_codec.dumps(message))


def _body(text: str) -> tuple[Any, Any, Any]:
    try:
        body = json.loads(message_codec.loads(text)["body"])
    except Exception as error:  # any program may have written the message
        raise OptionError(f"the arguments can't be read: {error}") from error
    if (
        not isinstance(body, list)
        or len(body) != _BODY_PARTS
        or not isinstance(body[0], list)
        or type(body[1]) is not dict
    ):
        raise OptionError(
            "the message isn't one of Celery's second protocol, so its arguments can't be changed"
        )
    return body[0], body[1], body[2]


def _recompute(
    app: Any, job: FailedJob, baton: Mapping[str, Any], before: Arguments, now: Arguments
) -> dict[str, Any]:
    """A baton whose tags, unique key and fair key are made of the arguments `now`."""
    task = app.tasks.get(job.task)
    if task is None or getattr(task, "options", None) is None:
        return dict(baton)
    unique_by, fair_by = task.options.unique_by, task.options.fair_by
    tags = _recompute_one(
        list(baton.get("tags") or ()), lambda *a: list(payload.tags(task, *a)), before, now
    )
    changed = {**baton, "tags": tags}
    if unique_by not in (None, False) and isinstance(baton.get("unique"), dict):
        key = _recompute_one(
            baton["unique"].get("key"),
            lambda *a: unique.unique_key(task, unique_by, *a),
            before,
            now,
        )
        changed["unique"] = {**baton["unique"], "key": key}
    if fair_by is not None and "fair" in baton:
        changed["fair"] = _recompute_one(
            baton["fair"], lambda *a: unique.fair_key(task, fair_by, *a), before, now
        )
    return changed


def _recompute_one(was: Any, make: Callable[..., Any], before: Arguments, now: Arguments) -> Any:
    """A value that `make` makes of arguments, made again. A value that `make` did not make of the
    arguments `before` (a dispatch may override it) stays.
    """
    try:
        was_made = make(*before) == was
    except OptionError:
        return was
    return make(*now) if was_made else was
