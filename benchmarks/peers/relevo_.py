"""Relevo on Redis."""

from __future__ import annotations

import asyncio
import sys
import time

from benchmarks.peers import marks
from relevo.app import create_app
from relevo.config import load

app = create_app(
    "bench", settings=load({"QUEUE_CONNECTION": "redis", "REDIS_URL": marks.url()}, env_file=None)
)
app.conf.task_ignore_result = True
_worker = [
    sys.executable,
    "-m",
    "celery",
    "-A",
    "benchmarks.peers.relevo_",
    "worker",
    "-l",
    "error",
]
WORKERS = {
    "relevo, prefork 2": [*_worker, "-c", "2"],
    "relevo, threads 10": [*_worker, "-P", "threads", "-c", "10"],
}


@app.task(name="tick")
def tick():
    marks.tick()


@app.task(name="stamp")
def stamp(sent):
    marks.stamp(sent)


def enqueue(count: int) -> None:
    """One by one, as an application does."""
    for _ in range(count):
        tick.delay()


def enqueue_bulk(count: int) -> None:
    """All in portions of a thousand."""
    with app.producer_or_acquire() as producer, producer.batch():
        for _ in range(count):
            tick.apply_async(producer=producer)


def enqueue_awaited(count: int) -> None:
    """From asyncio, one after the other."""

    async def main() -> None:
        for _ in range(count):
            await tick.adispatch()

    asyncio.run(main())


def enqueue_gathered(count: int) -> None:
    """From asyncio, 100 at once."""

    async def main() -> None:
        await tick.adispatch()  # the first one connects, in a thread
        for _ in range(count // 100):
            await asyncio.gather(*(tick.adispatch() for _ in range(100)))

    asyncio.run(main())


def trickle() -> None:
    stamp.delay(time.time())
