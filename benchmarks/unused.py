"""The cost of unused limits, fair queues and pauses: the same loop on two source trees, in turns.

    python -m benchmarks.unused OTHER_TREE [BROKER …]      BENCH_JOBS=100 BENCH_ROUNDS=200

The other tree is a worktree of this repository without these features: an earlier commit, or one
with their lines removed. Each tree has one process. The two take turns of a few hundredths of a
second, so that other load of the machine hits both. A process puts plain jobs one by one, then
takes them as a worker's main process does: it reserves ahead, makes messages, and acks in groups.

The figures are the CPU of a job in the process and in the Redis server, and the ratio of the two
trees: of the sums without the most expensive tenth of the turns, and of the medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

from benchmarks.stage import QUEUE, ROOT, brokers, new_job, table
from relevo.drivers import driver_for
from relevo.transport.context import WorkerContext
from relevo.transport.fetcher import Fetcher
from relevo.transport.lease_keeper import LeaseKeeper

JOBS, ROUNDS = int(os.environ.get("BENCH_JOBS", "100")), int(os.environ.get("BENCH_ROUNDS", "200"))


class Pool:
    """A pool of two places and a pipe of eight jobs, which are always free again."""

    ahead = 8
    is_serial = False

    def capacity(self) -> int:
        return 10

    def allow_ahead(self, jobs: int) -> None: ...

    def recall_if_stuck(self, seconds: float) -> None: ...


def turns(url: str) -> None:
    """The loop of one tree: one turn for each line of stdin, its figures on stdout."""
    driver: Any = driver_for(url)
    queue = f"{QUEUE}-{os.getpid()}"
    keeper = LeaseKeeper(driver, 30)
    fetcher = Fetcher(keeper, WorkerContext())
    for _ in sys.stdin:
        jobs, left = [replace(new_job("bench.noop", []), queue=queue) for _ in range(JOBS)], JOBS
        begun = spent(driver)
        for job in jobs:
            driver.put([job])
        put = spent(driver)
        while left:
            for job in fetcher.next_jobs([queue], Pool(), heard=True):  # type: ignore[arg-type]
                message = fetcher.message_for(job)
                keeper.complete(message["properties"]["delivery_tag"])
                left -= 1
        keeper.flush()
        steps = {"put": put - begun, "take": spent(driver) - put}
        print(json.dumps({name: used / JOBS * 1e6 for name, used in steps.items()}), flush=True)
    keeper.close()


def spent(driver: Any) -> float:
    """CPU seconds of this process, and of its Redis."""
    mine = time.process_time()
    if driver.name != "redis":
        return mine
    cpu = driver.client.info("cpu")
    return mine + float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


class Tree:
    """The process of one tree."""

    def __init__(self, tree: str, url: str) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "unused.py"), "turns", url]
        environ = {**os.environ, "PYTHONPATH": f"{tree}:{ROOT}"}
        self.process = subprocess.Popen(
            command, env=environ, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.figures: list[dict[str, float]] = []

    def turn(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.figures.append(json.loads(self.process.stdout.readline()))

    def spent(self, step: str) -> list[float]:
        """The figures of the turns, lowest first. The first turns, which warm up, are left out."""
        return sorted(each[step] for each in self.figures[5:])


def main(other: str, urls: list[str]) -> None:
    with brokers(urls or ["redis", "sqlite"]) as found:
        for broker, url in found.items():
            ours, without = trees = Tree(str(ROOT), url), Tree(other, url)
            for at in range(ROUNDS + 5):
                for tree in trees if at % 2 else trees[::-1]:
                    tree.turn()
            for tree in trees:
                tree.process.communicate()
            rows = [row(step, without.spent(step), ours.spent(step)) for step in ("put", "take")]
            heads = ["step", "without", "with", "ratio", "of medians"]
            table(f"{broker}: {ROUNDS} turns of {JOBS} jobs, us of CPU a job", heads, rows)


def row(step: str, without: list[float], ours: list[float]) -> list[str]:
    most = len(ours) * 9 // 10
    means = [statistics.mean(each[:most]) for each in (without, ours)]
    medians = statistics.median(without) / statistics.median(ours)
    return [
        step,
        f"{means[0]:.0f}",
        f"{means[1]:.0f}",
        f"{means[0] / means[1]:.3f}",
        f"{medians:.3f}",
    ]


if __name__ == "__main__":
    if sys.argv[1] == "turns":
        turns(sys.argv[2])
    else:
        main(os.path.abspath(sys.argv[1]), sys.argv[2:])  # noqa: PTH100
