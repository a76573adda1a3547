"""Put failed jobs back: claimed in the store, put into their broker all together, marked as
retried.

Each goes to the queue and connection it came from, with its own id and a fresh count of attempts,
and knows which failed job it is a retry of. Two who retry the same job at once send it once. One
whose unique key another job has by now is not sent, and stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
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


def retry_failed(app: Any, store: Store, which: Filter) -> int:
    """Put back every failed job that fits and was not retried yet. Returns how many this call has
    sent.
    """
    which = replace(
        which, newest=retry_claims.newest_number(store)
    )  # one that fails again meanwhile isn't retried again
    total, after = 0, 0
    while True:
        name, jobs = retry_claims.claim(store, which, after=after)
        if not jobs:
            return total
        try:
            sent = put_jobs(app, jobs)
            retry_claims.mark_retried(store, name, sent)
        finally:
            retry_claims.give_up(store, name)  # those that were refused
        total, after = total + len(sent), jobs[-1].id


def put_jobs(app: Any, jobs: Sequence[FailedJob]) -> list[int]:
    """Put failed jobs into their brokers. Returns the numbers of those that are there now. Raises
    DriverError.
    """
    sent: list[int] = []
    for name, same in groupby(
        sorted(jobs, key=lambda job: job.connection), key=lambda job: job.connection
    ):
        with app.connection_for_write(_url(app, name)) as connection:
            channel = connection.default_channel
            if hasattr(channel, "driver"):
                these = list(same)
                placed = channel.driver.put([_new_job(job) for job in these])
                sent += [
                    job.id for job, place in zip(these, placed, strict=True) if place.id == job.uuid
                ]
            else:
                for job in same:
                    # kombu's way to a queue
                    channel._put(job.queue, message_codec.loads(reset_payload(job)))  # noqa: SLF001
                    sent.append(job.id)
    return sent


def reset_payload(job: FailedJob) -> str:
    """The payload of a failed job for its retry: no attempts counted, and its number as the origin."""
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


def _new_job(job: FailedJob) -> NewJob:
    text = reset_payload(job)
    new = NewJob(queue=job.queue, payload=text, id=job.uuid, unique_key=f"failed:{job.id}")
    try:
        said = message_codec.to_job(job.queue, message_codec.loads(text))
        key = (
            said.unique_key if job.batch is None else None
        ) or new.unique_key  # no member is left out as a duplicate
        # It replaces nothing.
        return replace(
            new,
            priority=said.priority,
            unique_key=key,
            unique_for=said.unique_for,
            fair_key=said.fair_key,
        )
    except Exception:  # noqa: BLE001  it can't be read, and goes back all the same
        return new


def _url(app: Any, name: str) -> str | None:
    connections = getattr(getattr(app, "settings", None), "connections", {})
    return connections[name].url if name in connections else None


Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]

LONGEST_REPR = 1024
_PARTS = 3


def arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in a job's message. Raises OptionError where they can't be read as JSON."""
    args, kwargs, _ = _body(text)
    return list(args), dict(kwargs)


def retry_with_arguments(
    app: Any, store: Store, number: int, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bool:
    """Put the failed job with this number back with these arguments.

    False: somebody has put it back already, or another job has its unique key by now, and it stays
    as it is.
    """
    name, jobs = retry_claims.claim(store, Filter(ids=[number]))
    try:
        sent = put_jobs(app, [with_arguments(app, job, args, kwargs) for job in jobs])
        retry_claims.mark_retried(store, name, sent)
    finally:
        retry_claims.give_up(store, name)
    return bool(sent)


def with_arguments(
    app: Any, job: FailedJob, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> FailedJob:
    """The failed job with these arguments, and what nobody sees as it was. Raises OptionError when
    it has none.
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
    except Exception as error:  # it may be anything
        raise OptionError(f"the arguments can't be read: {error}") from error
    if (
        not isinstance(body, list)
        or len(body) != _PARTS
        or not isinstance(body[0], list)
        or type(body[1]) is not dict
    ):
        raise OptionError(
            "the message isn't one of Celery's second protocol, so its arguments can't be changed"
        )
    return body[0], body[1], body[2]


def _recompute(
    app: Any, job: FailedJob, said: Mapping[str, Any], before: Arguments, now: Arguments
) -> dict[str, Any]:
    """What a message says of the arguments it had, said of those it has now."""
    task = app.tasks.get(job.task)
    if task is None or getattr(task, "options", None) is None:
        return dict(said)
    by, turns = task.options.unique_by, task.options.fair_by
    anew = {
        **said,
        "tags": _recompute_one(
            list(said.get("tags") or ()), lambda *a: list(payload.tags(task, *a)), before, now
        ),
    }
    if by not in (None, False) and isinstance(said.get("unique"), dict):
        key = _recompute_one(
            said["unique"].get("key"), lambda *a: unique.unique_key(task, by, *a), before, now
        )
        anew["unique"] = {**said["unique"], "key": key}
    if turns is not None and "fair" in said:
        anew["fair"] = _recompute_one(
            said["fair"], lambda *a: unique.fair_key(task, turns, *a), before, now
        )
    return anew


def _recompute_one(was: Any, make: Callable[..., Any], before: Arguments, now: Arguments) -> Any:
    """What is made of arguments, made anew; what wasn't made of them, or can't be seen to be,
    stays.
    """
    try:
        mine = make(*before) == was
    except OptionError:
        return was
    return make(*now) if mine else was
