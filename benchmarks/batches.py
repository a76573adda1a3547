"""Batches: how fast members are handed in, what that takes, and when the callback comes; and what kills do to counts.

    python -m benchmarks.batches rate [URL …]        BENCH_MEMBERS=100000
    python -m benchmarks.batches kills [URL …]       BENCH_MEMBERS=10000: a worker killed every second, counts checked

`rate` compares with one-by-one `apply_async`, of the same task in the same process, and with Celery's own group.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any

from benchmarks.stage import QUEUE, Stage, Worker, brokers, table, until

MEMBERS = int(os.environ.get("BENCH_MEMBERS", "0"))


def main() -> None:
    kind, urls = (sys.argv[1:2] or ["rate"])[0], sys.argv[2:]
    with brokers(urls) as found:
        for name, url in found.items():
            if os.fork() == 0:  # an app for each: its tasks are those of its process
                {"rate": rate, "kills": kills}[kind](name, url)
                sys.stdout.flush()
                os._exit(0)
            os.wait()


def app_of(stage: Stage) -> Any:
    """The app of the benchmark's workers, in this process."""
    os.environ.update({key: value for key, value in stage.environ.items() if key.startswith("BENCH_")})
    from benchmarks.jobs import app  # noqa: PLC0415  it reads the environment

    return app


def rate(name: str, url: str) -> None:
    """Members a second, one by one, as Celery's group and as a batch."""
    from celery import group  # noqa: PLC0415

    count = MEMBERS or 100_000
    stage = Stage(url)
    app = app_of(stage)
    noop, few = app.tasks["bench.member"], max(count // 50, 100)
    rows = []
    for word, number, send in (
        ("apply_async", few, lambda: [noop.apply_async((n,)) for n in range(few)]),
        ("group", few, lambda: group(noop.s(n) for n in range(few)).apply_async()),
        ("batch", count, lambda: app.batch(noop.s(n) for n in range(count)).dispatch()),
    ):
        began = time.perf_counter()
        send()
        took = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        rows.append((word, f"{number:,}", f"{number / took:,.0f}", f"{peak} MB"))
        stage.clear()
    table(f"{name}: handing in", ["how", "jobs", "jobs/s", "peak memory"], rows)


def kills(name: str, url: str) -> None:
    """A batch of no-ops whose workers are killed every second: its counts at the end."""
    count = MEMBERS or 10_000
    stage = Stage(url, BENCH_LEASE="1")
    app = app_of(stage)
    noop, told = app.tasks["bench.member"], app.tasks["bench.told"]
    batch = app.batch(noop.s(n) for n in range(count)).then(told.s(1)).catch(told.s(2)).finally_(told.s(3)).dispatch()
    killed, began = 0, time.monotonic()
    while not batch.refresh().finished:
        worker = Worker(stage, ("-c", "2"))
        until(lambda worker=worker: worker.pid in stage.facts("ready"), worker)
        time.sleep(1)
        if batch.refresh().finished:
            worker.stop()
        else:
            killed += 1
            worker.kill()
    with stage.worker("-c", "2"):
        until(lambda: {1, 3} <= {*stage.counted("told"), *stage.counted("again")})
        until(lambda: not sum(_sizes(stage)))
    rows = [(count, killed, batch.total, batch.completed, batch.failed, batch.dropped,
             f"{sorted(stage.counted('told'))}", len(stage.counted("again")),
             f"{time.monotonic() - began:.0f} s")]  # fmt: skip
    columns = ["members", "kills", "total", "completed", "failed", "dropped", "callbacks", "run again", "took"]
    table(f"{name}: a worker killed every second", columns, rows)


def _sizes(stage: Stage) -> tuple[int, int, int]:
    sizes = stage.driver.sizes(QUEUE)
    return sizes.pending, sizes.delayed, sizes.reserved


if __name__ == "__main__":
    main()
