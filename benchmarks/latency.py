"""The delay from dispatch to start on an idle worker, and the cost of an idle worker.

    python -m benchmarks.latency [URL …]        BENCH_JOBS=100 BENCH_IDLE=20

Celery's client dispatches jobs one by one, with random pauses, and the task compares its time with
the dispatch's. Then nothing runs for BENCH_IDLE seconds, and the benchmark measures the CPU of the
worker's main process and its statements to the database.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time

import psutil

from benchmarks.stage import QUEUE, Stage, brokers, table, until
from relevo import config
from relevo.app import create_app

JOBS, IDLE = int(os.environ.get("BENCH_JOBS", "100")), float(os.environ.get("BENCH_IDLE", "20"))


def main() -> None:
    with brokers(sys.argv[1:]) as urls:
        rows = [measure(name, Stage(url, BENCH_STATEMENTS="1")) for name, url in urls.items()]
    heads = ["broker", "p50 ms", "p99 ms", "max ms", "idle: % of a core", "statements/s"]
    table(
        f"From dispatch to start on an idle worker, {JOBS} jobs; then {IDLE:.0f} s without one",
        heads,
        rows,
    )


def measure(name: str, stage: Stage) -> tuple[str, ...]:
    stage.clear()
    with stage.worker("-P", "prefork", "-c", "2") as worker:
        dispatch(stage)
        until(lambda: len(stage.counted("since")) == JOBS, worker)
        waits = sorted(microseconds / 1000 for microseconds in stage.counted("since"))
        share, statements = idle(stage, worker.pid)
    percentiles = statistics.quantiles(waits, n=100)
    return (
        name,
        *(f"{wait:.1f}" for wait in (percentiles[49], percentiles[98], waits[-1])),
        share,
        statements,
    )


def dispatch(stage: Stage) -> None:
    app = create_app(
        "client", config.load({"QUEUE_RESULTS": "none"}, env_file=None), broker_url=stage.url
    )
    dice = random.Random(1)
    app.send_task("bench.since", (time.time(),), queue=QUEUE)  # connects
    until(lambda: stage.counted("since"))
    stage.journal.write_text("")
    for _ in range(JOBS):
        time.sleep(dice.uniform(0.1, 0.5))
        app.send_task("bench.since", (time.time(),), queue=QUEUE)
    app.close()


def idle(stage: Stage, pid: int) -> tuple[str, str]:
    time.sleep(2)
    main = psutil.Process(pid)
    before, asked = sum(main.cpu_times()[:2]), stage.counted("statements")[-1]
    time.sleep(IDLE)
    after, answered = sum(main.cpu_times()[:2]), stage.counted("statements")[-1]
    return f"{(after - before) / IDLE * 100:.2f}", f"{(answered - asked) / IDLE:.1f}"


if __name__ == "__main__":
    main()
