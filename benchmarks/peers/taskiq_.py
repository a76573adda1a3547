"""Taskiq on Redis streams (the broker that acks): two processes."""

from __future__ import annotations

import asyncio
import sys
import time

from taskiq_redis import RedisStreamBroker

from benchmarks.peers import marks

broker = RedisStreamBroker(url=marks.url())
WORKERS = {
    "taskiq, streams, 2 processes": [
        sys.executable, "-m", "taskiq", "worker", "benchmarks.peers.taskiq_:broker",
        "--workers", "2", "--log-level", "ERROR",
    ]
}  # fmt: skip
_loop = asyncio.new_event_loop()


@broker.task(task_name="tick")
async def tick() -> None:
    marks.tick()


@broker.task(task_name="stamp")
async def stamp(sent: float) -> None:
    marks.stamp(sent)


async def _send(count: int) -> None:
    await broker.startup()
    for _ in range(count):
        await tick.kiq()


def enqueue(count: int) -> None:
    _loop.run_until_complete(_send(count))


def trickle() -> None:
    _loop.run_until_complete(stamp.kiq(time.time()))
