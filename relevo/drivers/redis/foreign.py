"""Messages that a plain Celery client pushed with stock kombu: taken over into our queues, one atomic step each.

kombu leaves them in a list named like the queue (and one per priority step), newest at the head. They are read, told
apart (id, eta, priority), and moved if they are still there; one that can't be told apart is moved all the same, so
that the worker puts it aside with its reason.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis

from relevo.drivers import checks, messages
from relevo.drivers.contract import NewJob
from relevo.drivers.redis.connect import translated
from relevo.drivers.redis.keys import KOMBU_STEPS, Keys
from relevo.errors import OptionError


def adopt(client: Redis, keys: Keys, run: Callable[..., Any], queues: Sequence[str], limit: int) -> int:
    """Move up to `limit` messages of each list, oldest first. Returns how many."""
    return sum(
        _adopt_list(client, run, queue, key, step, limit)
        for queue in queues
        for step, key in zip(KOMBU_STEPS, keys.kombu(queue), strict=True)
    )


def _adopt_list(client: Redis, run: Callable[..., Any], queue: str, key: str, step: int, limit: int) -> int:
    with translated():
        found: list[bytes] = client.lrange(key, -limit, -1)  # type: ignore[assignment]
    fields: list[Any] = []
    for payload in reversed(found):
        job = _job(queue, payload, step)
        later = "" if job.available_at is None else repr(float(job.available_at))
        fields += [key, payload, queue, job.id, job.priority, later]
    return int(run("adopt", *fields)) if fields else 0


def _job(queue: str, payload: bytes, step: int) -> NewJob:
    text = payload.decode("utf-8", "replace")
    try:
        job = messages.new_job(queue, messages.loads(text))
        checks.jobs([job])
    except (ValueError, TypeError, AttributeError, OptionError):
        return NewJob(queue, text, str(uuid.uuid4()), priority=step)
    return job
