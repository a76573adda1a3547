"""Messages of plain Celery with stock kombu, taken over into our queues: what its clients push,
what its workers held.

kombu leaves a message in a list named like the queue (and one per priority step), newest at the
head. Those of the tail are read, told apart (id, eta, priority), and moved if they are still there;
one that can't be told apart is moved all the same, so that the worker puts it aside with its
reason.

A stock worker keeps what it holds in a hash, beside an index by time, until it acks. If it was
killed they stay there for `visibility_timeout` (an hour); `adopt_unacked` moves them at once.
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

# Messages read at once: they pass through this process, and may be large.
PORTION = 100


class KombuLists:
    """kombu's side of the Redis at `client`."""

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
        """Move everything in kombu's hash `unacked`. Returns how many; what kombu can't have
        written stays there.
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
        """What `adopt_unacked.lua` takes of one message; nothing if it is unreadable."""
        try:
            message, exchange, routing_key = message_codec.loads(text(held))
            payload = message_codec.dumps(message)
            queue = self._queue(str(exchange or ""), str(routing_key or ""))
            validation.queues([queue])
        # whatever an entry does to its reader, the others are adopted
        except Exception as error:  # noqa: BLE001
            logger.warning("unacked message %r can't be read and stays where it is: %s", tag, error)
            return []
        job = _job(queue, payload, 0)
        return [tag, held, queue, job.id, payload, job.priority, _later(job)]

    def _queue(self, exchange: str, routing_key: str) -> str:
        """Where kombu would put it back to. Celery's own queues have the default exchange: the
        routing key names them.

        Of several queues bound alike the first is taken: a message went to each of them with a tag
        of its own.
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
    """The names of kombu's hash of unacked messages and its index, as its transport options call
    them.
    """
    return options.get("unacked_key") or "unacked", options.get(
        "unacked_index_key"
    ) or "unacked_index"


def _job(queue: str, payload: str, step: int) -> NewJob:
    try:
        job = message_codec.to_job(queue, message_codec.loads(payload))
        validation.jobs([job])
    # a stranger's message; whoever reserves it says what is wrong with it
    except Exception:  # noqa: BLE001
        return NewJob(queue, payload, str(uuid.uuid4()), priority=step)
    return job


def _later(job: NewJob) -> str:
    return "" if job.available_at is None else number(job.available_at)
