"""The time of a POST that writes a row and dispatches a job, while workers are busy.

    python -m benchmarks.posts [BROKER …]       BENCH_POSTS=300 BENCH_NICE=0

A BROKER is sqlite, postgresql or "postgresql and redis"; without one, all three are measured.

It runs a real uvicorn, a worker whose two processes resize pictures all the time, and a client that
sends one request after the other: on SQLite, on PostgreSQL, and on PostgreSQL with Redis as the
broker. The jobs of the requests go to queues that this worker doesn't take, so that it stays busy
with the pictures.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from typing import Any

import psutil

from benchmarks.stage import table
from tests.support import servers
from tests.support.company import Company, company, own_database
from tests.support.pictures import saved, scene

POSTS = int(os.environ.get("BENCH_POSTS", "300"))
NICE = int(os.environ.get("BENCH_NICE", "0"))  # of the worker
WARM, BATCH, BATCHES = 10, 50, 12
PERCENT = 100
HOOK = "http://example.com"


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relevo-bench-")))
        database = stack.enter_context(
            own_database(stack.enter_context(servers.postgresql()), "posts")
        )
        redis = stack.enter_context(servers.redis())
        places = {
            "sqlite": (f"sqlite:///{folder}/relevo.db", {"QUEUE_CONNECTION": "database"}),
            "postgresql": (database, {"QUEUE_CONNECTION": "database"}),
            "postgresql and redis": (database, {"QUEUE_CONNECTION": "redis", "REDIS_URL": redis}),
        }
        heads = ["broker", "POST", "p50 ms", "p95 ms", "p99 ms", "max ms"]
        for number, (name, (url, broker)) in enumerate(places.items()):
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            (folder / str(number)).mkdir()
            with company(folder / str(number), url, "default", **broker) as firm:
                table(
                    f"{POSTS} of each POST, while two processes shrink pictures",
                    heads,
                    measure(name, firm),
                )


def measure(name: str, firm: Company) -> list[tuple[str, ...]]:
    worker = psutil.Process(firm.workers[0].pid)
    for process in (worker, *worker.children(recursive=True)):
        process.nice(NICE)
    picture = saved(scene(1600, 1200)).getvalue()
    ids = [firm.upload(f"{number}.jpg", picture) for number in range(BATCH)]
    event = firm.post(
        "/api/events", json={"name": "J", "starts_at": "2030-07-01T10:00:00Z", "capacity": 1}
    )["id"]
    batches = [
        firm.post("/api/batch-process-files", json={"file_ids": ids})["id"] for _ in range(BATCHES)
    ]
    firm.until(f"/api/batch/{batches[0]}/status", lambda status: status["processed"])
    numbers = count(time.time_ns())
    posts: dict[str, Callable[[], Any]] = {
        "generate-report": lambda: firm.post(
            "/api/generate-report", json={"type": "system-health"}
        ),
        "exports": lambda: firm.post(f"/api/events/{event}/exports"),
        "webhooks": lambda: firm.post(
            "/api/webhooks", json={"url": HOOK, "body": {"n": next(numbers)}}
        ),
        "cases": lambda: firm.post("/api/cases", json={"number": f"AZ {next(numbers)}"}),
        "send-notification": lambda: firm.post(
            "/api/send-notification", json={"subject": "s", "message": "m"}
        ),
    }
    for post in posts.values():
        for _ in range(WARM):
            post()
    took: dict[str, list[float]] = {post: [] for post in posts}
    for _ in range(POSTS):
        for post, ask in posts.items():
            began = time.perf_counter()
            ask()
            took[post].append((time.perf_counter() - began) * 1000)
    status = firm.client.get(f"/api/batch/{batches[-1]}/status").json()
    print(
        f"{name}: the worker (nice {NICE}) was "
        f"{'idle in the end' if status['finished'] else 'busy to the end'}"
    )
    took["all"] = list(chain.from_iterable(took.values()))
    return [(name, post, *told(times)) for post, times in took.items()]


def told(times: list[float]) -> list[str]:
    cuts = statistics.quantiles(times, n=PERCENT)
    return [f"{each:.1f}" for each in (cuts[49], cuts[94], cuts[98], max(times))]


if __name__ == "__main__":
    main()
