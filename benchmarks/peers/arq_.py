"""Arq: one process, a hundred jobs at once, results off; its own poll delay is half a second."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.peers import marks

_loop = asyncio.new_event_loop()
asyncio.set_event_loop(_loop)
WORKERS = {
    "arq, 100 at once": [
        str(Path(sys.executable).with_name("arq")),
        "benchmarks.peers.arq_.WorkerSettings",
    ]
}


async def tick(_context: dict) -> None:
    marks.tick()


async def stamp(_context: dict, sent: float) -> None:
    marks.stamp(sent)


class WorkerSettings:
    """What arq's command reads."""

    functions = (tick, stamp)
    redis_settings = RedisSettings.from_dsn(marks.url())
    max_jobs = 100
    keep_result = 0


async def _send(count: int) -> None:
    pool = await create_pool(RedisSettings.from_dsn(marks.url()))
    for _ in range(count):
        await pool.enqueue_job("tick")


_pool = None


async def _trickle() -> None:
    global _pool  # noqa: PLW0603  one pool for all
    _pool = _pool or await create_pool(RedisSettings.from_dsn(marks.url()))
    await _pool.enqueue_job("stamp", time.time())


def enqueue(count: int) -> None:
    _loop.run_until_complete(_send(count))


def trickle() -> None:
    _loop.run_until_complete(_trickle())
