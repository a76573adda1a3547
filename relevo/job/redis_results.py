"""Celery's result backends of Redis, with chords that are counted by us (chord.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend, SentinelBackend

from relevo.job.results import Chords


class _InRedis(Chords):
    def _results_of(self, ids: Sequence[str]) -> dict[str, Any]:
        stored = self.mget([self.get_key_for_task(id_) for id_ in ids])
        metas = {id_: self.decode_result(each) for id_, each in zip(ids, stored, strict=True) if each}
        return {id_: meta["result"] for id_, meta in metas.items() if meta["status"] == states.SUCCESS}


class RedisResults(_InRedis, RedisBackend):
    """Results in Redis."""


class SentinelResults(_InRedis, SentinelBackend):
    """Results in Redis behind Sentinel."""
