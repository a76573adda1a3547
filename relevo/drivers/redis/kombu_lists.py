"""Takes over messages of stock Celery: those its clients push, and those its workers held.

kombu leaves a message in a list named like the queue (and one for each priority step), newest at
the head. The messages at the tail are read, decoded (id, eta, priority), and moved if they are
still there. An unreadable message is moved all the same: the worker dead-letters it with a reason.

A stock worker keeps the messages that it holds in a hash, beside an index by time, until it acks.
Those of a killed worker stay there for `visibility_timeout` (an hour); `adopt_unacked` moves them
at once.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from redis import Redis

from relevo.drivers import message_codec, validation
from relevo.drivers.contract import NewJob
from relevo.drivers.redis.keys import Keys
from relevo.drivers.redis.replies import text
from relevo.drivers.redis.scripts import Scripts, number

logger = logging.getLogger(__name__)

# The most messages read at once: they pass through this process, and may be large.
PORTION = 100


class KombuLists:
    """The keys of stock kombu in the Redis at `client`."""

    def __init__(self, client: Redis, keys: Keys, scripts: Scripts) -> None:
        self._client, self._keys, self._scripts = client, keys, scripts

    def adopt(self, queues: Sequence[str]) -> int:
        """Move up to PORTION messages of each list, oldest first. Returns how many."""
        return sum(
            self._adopt_list(queue, key, step)
            for queue in queues
            for step, key in zip(self._keys.steps, self._keys.kombu(queue), strict=True)
        )

    def _adopt_list(self, queue: str, key: str, step: int) -> int:
        found: list[bytes] = self._scripts.guarded(self._client.lrange, key, -PORTION, -1)
        fields: list[Any] = []
        for payload in reversed(found):
            job = _job(queue, text(payload), step)
            fields += [payload, job.id, job.priority, _later(job)]
        return int(self._scripts.run("adopt", key, queue, *fields)) if fields else 0

    def adopt_unacked(self, unacked: str, index: str) -> int:
        """Move all messages in kombu's hash `unacked`. Returns how many.

        Entries that kombu can't have written stay there.
        """
        hash_key, adopted, cursor = f"{self._keys.prefix}{unacked}", 0, 0
        while True:
            cursor, found = self._scripts.guarded(
                self._client.hscan, hash_key, cursor, None, PORTION
            )
            fields = [field for tag, held in found.items() for field in self._unacked(tag, held)]
            if fields:
                adopted += int(
                    self._scripts.run(
                        "adopt_unacked", hash_key, f"{self._keys.prefix}{index}", *fields
                    )
                )
            if not cursor:
                return adopted

    def _unacked(self, tag: bytes, held: bytes) -> list[Any]:
        """The arguments of `adopt_unacked.lua` for one message; none if it is unreadable."""
        try:
            message, exchange, routing_key = message_codec.loads(text(held))
            payload = message_codec.dumps(message)
            queue = self._queue(str(exchange or ""), str(routing_key or ""))
            validation.queues([queue])
        # Whatever is wrong with one entry, the others are adopted.
        except Exception as error:  # noqa: BLE001
            logger.warning("unacked message %r can't be read and stays where it is: %s", tag, error)
            return []
        job = _job(queue, payload, 0)
        return [tag, held, queue, job.id, payload, job.priority, _later(job)]

    def _queue(self, exchange: str, routing_key: str) -> str:
        """The queue to which kombu would restore a message.

        Celery's own queues have the default exchange: the routing key is their name. Of several
        queues with the same binding the first is taken: each got its own copy of the message.
        """
        bindings = self._scripts.guarded(
            self._client.smembers, f"{self._keys.prefix}_kombu.binding.{exchange}"
        )
        for binding in sorted(text(member) for member in bindings) if exchange else []:
            key, pattern, queue = binding.split(self._keys.separator)
            if key == routing_key or (pattern and re.match(pattern, routing_key)):
                return queue
        return routing_key


def unacked_keys(options: Mapping[str, Any]) -> tuple[str, str]:
    """The names of kombu's hash of unacked messages and of its index, by its transport options."""
    unacked = options.get("unacked_key") or "unacked"
    return unacked, options.get("unacked_index_key") or "unacked_index"


def _job(queue: str, payload: str, step: int) -> NewJob:
    try:
        job = message_codec.to_job(queue, message_codec.loads(payload))
        validation.jobs([job])
    # A foreign message: the worker that reserves it reports what is wrong.
    except Exception:  # noqa: BLE001
        return NewJob(queue, payload, str(uuid.uuid4()), priority=step)
    return job


def _later(job: NewJob) -> str:
    return "" if job.available_at is None else number(job.available_at)
