"""The cost of limits and fair queues: plain jobs, jobs of a fair queue and jobs under permits, in
turns.

    python -m benchmarks.limits [URL …]         BENCH_JOBS=1000 BENCH_ROUNDS=3

The fair queue holds the jobs of ten tenants. There are three kinds of permits: one of a hundred,
which is always free, so that only asking for it and returning it is measured; one of four, as many
as two pool processes can use; and a single one for each of a thousand keys. Ratios are to the plain
rate of the same round.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

from benchmarks.drain import Side
from benchmarks.stage import Stage, brokers, new_job, table

JOBS, ROUNDS = int(os.environ.get("BENCH_JOBS", "1000")), int(os.environ.get("BENCH_ROUNDS", "3"))


def filled(name: str, tenants: int = 0, keys: int = 0) -> Callable[[Stage, int], None]:
    """A function that fills a stage with jobs of this task."""

    def fill(stage: Stage, jobs: int) -> None:
        stage.clear()
        work = [new_job(name, [at % keys] if keys else []) for at in range(jobs)]
        rows = [new_job("bench.mark", [1]), *work, new_job("bench.mark", [2])]
        if tenants:
            # The last one must come last: it is of a tenant whose turns are all given by then.
            rows = [
                replace(row, fair_key=str(at % tenants if at <= jobs else 0))
                for at, row in enumerate(rows)
            ]
            rows[-1] = replace(rows[-1], priority=9)
        for start in range(0, len(rows), 1000):
            stage.driver.put(rows[start : start + 1000])

    return fill


def main(urls: list[str]) -> None:
    with brokers(urls) as found:
        for broker, url in found.items():
            stage = Stage(url)
            sides = [
                Side("plain", stage, filled("bench.noop"), JOBS),
                Side("fair", stage, filled("bench.noop", tenants=10), JOBS),
                Side("permit of 100", stage, filled("bench.limited"), JOBS),
                Side("permit of 4", stage, filled("bench.few"), JOBS),
                Side("1000 keys", stage, filled("bench.alone", keys=1000), JOBS),
            ]
            for _ in range(ROUNDS):
                for side in sides:
                    side.run()
            plain = sides[0]
            table(
                f"{broker}: {ROUNDS} rounds of {JOBS} jobs, medians",
                ["side", "jobs/s", "of plain", "CPU ms/job"],
                [
                    [
                        side.name,
                        f"{statistics.median(side.rates):.0f}",
                        f"{median_ratio(side.rates, plain.rates):.2f}",
                        f"{statistics.median(side.cpu):.2f}",
                    ]
                    for side in sides
                ],
            )


def median_ratio(ones: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


if __name__ == "__main__":
    main(sys.argv[1:])
