"""Celery with kombu's Redis transport: late acks, prefetch 1, no gossip, mingle or events."""

from __future__ import annotations

import sys
import time

from celery import Celery

from benchmarks.peers import marks

app = Celery("stock", broker=marks.url())
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    worker_send_task_events=False,
)
_worker = [
    sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_", "worker", "-l", "error",
    "--without-gossip", "--without-mingle",
]  # fmt: skip
WORKERS = {
    "celery, prefork 2": [*_worker, "-c", "2"],
    "celery, threads 10": [*_worker, "-P", "threads", "-c", "10"],
}


@app.task(name="tick")
def tick():
    marks.tick()


@app.task(name="stamp")
def stamp(sent):
    marks.stamp(sent)


def enqueue(count: int) -> None:
    for _ in range(count):
        tick.delay()


def trickle() -> None:
    stamp.delay(time.time())
