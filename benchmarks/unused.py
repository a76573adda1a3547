"""What a queue pays for limits, fair queues and pauses that it doesn't use: the same loop on two trees, in turns.

    python -m benchmarks.unused OTHER_TREE [BROKER …]      BENCH_JOBS=2000 BENCH_ROUNDS=15

The other tree is a worktree of this repository without them (of a commit before them, or with their lines taken out). A
round is one process on each tree: it puts plain jobs one by one, then takes them as a worker's main process does
(reserved ahead, made messages of, acked in groups). Told is the CPU of a job, in the process and in the Redis server,
and the ratio of the two trees: the median of the rounds, and how far apart the middle half of them lies.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.stage import QUEUE, ROOT, brokers, new_job, table
from relevo.drivers import driver_for
from relevo.drivers.intake import Intake
from relevo.drivers.ledger import Ledger

JOBS, ROUNDS = int(os.environ.get("BENCH_JOBS", "2000")), int(os.environ.get("BENCH_ROUNDS", "15"))


class Pool:
    """A pool of two places with eight jobs in its pipe, which are always free again."""

    waiting = 8

    def room(self) -> int:
        return 10

    def allow_waiting(self, jobs: int) -> None: ...

    def recall_if_stuck(self, seconds: float) -> None: ...


def once(url: str) -> None:
    """One round of one tree, its figures to stdout."""
    driver: Any = driver_for(url)
    driver.clear(QUEUE)
    jobs = [new_job("bench.noop", []) for _ in range(JOBS)]
    begun = spent(driver)
    for job in jobs:
        driver.put([job])
    put = spent(driver)
    ledger = Ledger(driver, 30)
    intake, left = Intake(driver, ledger), JOBS
    while left:
        for job in intake.jobs([QUEUE], Pool(), heard=True):  # type: ignore[arg-type]
            message = intake.message_of(job)
            ledger.done(message["properties"]["delivery_tag"])
            left -= 1
    ledger.close()
    taken = spent(driver)
    steps = {"put": (begun, put), "take": (put, taken)}
    print(json.dumps({name: (after - before) / JOBS * 1e6 for name, (before, after) in steps.items()}))


def spent(driver: Any) -> float:
    """CPU seconds of this process, and of its Redis."""
    mine = time.process_time()
    if driver.name != "redis":
        return mine
    cpu = driver.client.info("cpu")
    return mine + float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def measured(tree: str, url: str) -> dict[str, float]:
    command = [sys.executable, str(ROOT / "benchmarks" / "unused.py"), "once", url]
    environ = {**os.environ, "PYTHONPATH": f"{tree}:{ROOT}"}
    answer = subprocess.run(command, env=environ, cwd=tree, capture_output=True, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(answer)
    return figures


def main(other: str, urls: list[str]) -> None:
    with brokers(urls or ["redis", "sqlite"]) as found:
        for broker, url in found.items():
            rounds = [(measured(str(ROOT), url), measured(other, url)) for _ in range(ROUNDS)]
            rows = []
            for step in ("put", "take"):
                ratios = [without[step] / ours[step] for ours, without in rounds]
                low, _, high = statistics.quantiles(ratios, n=4)
                rows.append([step, f"{statistics.median(without[step] for _, without in rounds):.0f}",
                             f"{statistics.median(ours[step] for ours, _ in rounds):.0f}",
                             f"{statistics.median(ratios):.3f}", f"{low:.3f} to {high:.3f}"])  # fmt: skip
            heads = ["step", "without", "with", "ratio", "half"]
            table(f"{broker}: {ROUNDS} rounds of {JOBS} jobs, us of CPU a job", heads, rows)


if __name__ == "__main__":
    if sys.argv[1] == "once":
        once(sys.argv[2])
    else:
        main(os.path.abspath(sys.argv[1]), sys.argv[2:])  # noqa: PTH100
