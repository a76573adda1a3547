"""RQ: two workers that run jobs in their own process. Its default, a fork a job, is slower."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from redis import Redis
from rq import Queue

from benchmarks.peers import marks

queue = Queue("bench", connection=Redis.from_url(marks.url()))
_rq = str(Path(sys.executable).with_name("rq"))
WORKERS = {
    "rq, 2 simple workers": [
        sys.executable, _rq, "worker-pool", "bench", "-n", "2", "-u", marks.url(), "-q",
        "-w", "rq.SimpleWorker",
    ]
}  # fmt: skip


def enqueue(count: int) -> None:
    for _ in range(count):
        queue.enqueue(marks.tick, result_ttl=0)


def trickle() -> None:
    queue.enqueue(marks.stamp, time.time(), result_ttl=0)
