"""A failed job put back with other arguments: the message stays what it was, but for them.

What was worked out from the old arguments (what people read of them, the tags) is worked out again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from relevo.drivers import messages
from relevo.errors import OptionError
from relevo.job import again, payload, redaction
from relevo.job.payload import HEADER
from relevo.store import claims
from relevo.store.failed import FailedJob, Filter
from relevo.store.session import Store

LONGEST_REPR = 1024
_PARTS = 3


def arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in a job's message. Raises OptionError where they can't be read as JSON."""
    args, kwargs, _ = _body(text)
    return list(args), dict(kwargs)


def retry(app: Any, store: Store, number: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Put the failed job with this number back with these arguments. False: somebody has put it back already."""
    name, jobs = claims.claim(store, Filter(ids=[number]))
    if not jobs:
        return False
    try:
        again.put(app, [changed(app, jobs[0], args, kwargs)])
    except BaseException:
        claims.give_up(store, name)
        raise
    claims.settle(store, name)
    return True


def changed(app: Any, job: FailedJob, args: Sequence[Any], kwargs: Mapping[str, Any]) -> FailedJob:
    """The failed job with these arguments, and what nobody sees as it was. Raises OptionError when it has none."""
    *before, embed = _body(job.payload)
    args, kwargs = redaction.restored(app, job.task, (before[0], before[1]), (args, kwargs))
    message = messages.loads(job.payload)
    headers = dict(message.get("headers") or {})
    seen = redaction.arguments(app, job.task, args, kwargs)
    headers |= {"argsrepr": repr(tuple(seen[0]))[:LONGEST_REPR], "kwargsrepr": repr(seen[1])[:LONGEST_REPR]}
    if isinstance(headers.get(HEADER), dict):
        headers[HEADER] = {**headers[HEADER], "tags": _tags(app, job, args, kwargs)}
    message |= {"headers": headers, "body": json.dumps([list(args), dict(kwargs), embed], ensure_ascii=False)}
    message["properties"] = {**message["properties"], "body_encoding": "utf-8"}
    message |= {"content-type": "application/json", "content-encoding": "utf-8"}
    return replace(job, payload=messages.dumps(message))


def _body(text: str) -> tuple[Any, Any, Any]:
    try:
        body = json.loads(messages.loads(text)["body"])
    except Exception as error:  # it may be anything
        raise OptionError(f"the arguments can't be read: {error}") from error
    if not isinstance(body, list) or len(body) != _PARTS or not isinstance(body[0], list) or type(body[1]) is not dict:
        raise OptionError("the message isn't one of Celery's second protocol, so its arguments can't be changed")
    return body[0], body[1], body[2]


def _tags(app: Any, job: FailedJob, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    task = app.tasks.get(job.task)
    if task is None or getattr(task, "options", None) is None:
        return list(job.tags)
    return list(payload.tags(task, tuple(args), kwargs))
