"""Celery's result backends of Redis, with chords that are counted by us (chord.py).

Celery subscribes to the result of every job that it dispatches. Here who waits for one does (`get`, `then`, a group):
a dispatch is a round trip cheaper, a Redis that is away with all results holds up nobody who asks for none, and a
process that dispatches for weeks and never waits has no subscriptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend, SentinelBackend

from relevo.job.results import Chords


class _InRedis(Chords):
    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Nobody waits yet."""

    def _results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        stored = self.mget([self.get_key_for_task(id_) for id_ in ids])
        metas = {id_: self.decode_result(each) for id_, each in zip(ids, stored, strict=True) if each}
        return {id_: meta["result"] for id_, meta in metas.items() if meta["status"] == states.SUCCESS}


class RedisResults(_InRedis, RedisBackend):
    """Results in Redis."""


class SentinelResults(_InRedis, SentinelBackend):
    """Results in Redis behind Sentinel."""
