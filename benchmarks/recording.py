"""The cost of recording: the drain rate with history of all jobs, of failed jobs, and of none, in
turns.

    python -m benchmarks.recording [URL …]          BENCH_JOBS=5000 BENCH_ROUNDS=5

The same jobs, worker and clock as in `benchmarks.drain`. SQLite is the hard case: records and jobs
are in one file, which has one write lock and is synced at every commit. The sides take turns in a
changing order, so that other load of the machine hits all of them.
"""

from __future__ import annotations

import os
import statistics
import sys

from benchmarks.drain import Side, fill
from benchmarks.stage import Stage, brokers, table

JOBS, ROUNDS = int(os.environ.get("BENCH_JOBS", "5000")), int(os.environ.get("BENCH_ROUNDS", "5"))
HISTORIES = ("none", "failed", "all")


def main() -> None:
    with brokers(sys.argv[1:]) as urls:
        for name, url in urls.items():
            sides = [
                Side(history, Stage(url, BENCH_HISTORY=history), fill, JOBS)
                for history in HISTORIES
            ]
            for each in range(ROUNDS):
                for side in sides if each % 2 else reversed(sides):
                    side.run()
            report(name, sides)


def report(broker: str, sides: list[Side]) -> None:
    """The figure is the median, over the rounds, of the share of the rate without history."""
    rows = []
    for side in sides:
        shares = [mine / without for mine, without in zip(side.rates, sides[0].rates, strict=True)]
        rows.append(
            (
                side.name,
                f"{statistics.median(side.rates):,.0f}",
                f"{statistics.median(side.cpu):.2f}",
                f"{100 * statistics.median(shares):.0f} %",
            )
        )
    table(
        f"{broker}: {JOBS} jobs, prefork -c 2, {ROUNDS} rounds",
        ["history", "jobs/s", "CPU ms/job", "of none"],
        rows,
    )


if __name__ == "__main__":
    main()
