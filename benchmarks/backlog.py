"""Jobs a second with a long queue: does a long queue slow its workers down?

    python -m benchmarks.backlog [URL …]        BENCH_BACKLOG=1000000 BENCH_JOBS=5000

The same jobs, worker and clock as in `benchmarks.drain`. First a queue of 10,000, then one of
BENCH_BACKLOG. The figure of each is the median rate of its first portions of BENCH_JOBS. Without a
url it measures Redis.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

from benchmarks.stage import Stage, brokers, table, until
from tests.support import servers

FEW, MANY = 10_000, int(os.environ.get("BENCH_BACKLOG", "1000000"))
JOBS, PIECES = int(os.environ.get("BENCH_JOBS", "5000")), 4


def main() -> None:
    if len(sys.argv) > 1:
        report(sys.argv[1:])
    else:
        with servers.redis() as url:
            report([url])


def report(given: list[str]) -> None:
    with brokers(given) as urls:
        rows = [measure(name, Stage(url, BENCH_HISTORY="none")) for name, url in urls.items()]
    heads = ["broker", f"jobs/s with {FEW:,}", f"with {MANY:,}", "ratio", "put/s"]
    table(f"Rate of the first jobs, medians of {PIECES} pieces of {JOBS}", heads, rows)


def measure(name: str, stage: Stage) -> tuple[str, ...]:
    few = [rate for _ in range(PIECES * JOBS // FEW) for rate in rates(stage, FEW // JOBS, FEW)[0]]
    many, put = rates(stage, PIECES, MANY)
    stage.clear()
    with_few, with_many = statistics.median(few), statistics.median(many)
    return (
        name,
        f"{with_few:,.0f}",
        f"{with_many:,.0f}",
        f"{with_many / with_few:.2f}",
        f"{put:,.0f}",
    )


def rates(stage: Stage, pieces: int, total: int) -> tuple[list[float], float]:
    """Fill the queue with `total` jobs, with marks between the first portions. Returns the rate of
    each portion, and the rate of putting.
    """
    stage.clear()
    started = time.monotonic()
    stage.put("bench.mark", [[0]])
    for piece in range(1, pieces + 1):
        stage.put("bench.noop", [[]] * JOBS)
        stage.put("bench.mark", [[piece]])
    stage.put("bench.noop", [[]] * (total - pieces * JOBS))
    put = total / (time.monotonic() - started)
    with stage.starting(
        "-P", "prefork", "-c", "2", "--without-gossip", "--without-mingle"
    ) as worker:
        until(lambda: pieces in stage.facts("mark"), worker)
    marks = stage.facts("mark")
    return [JOBS / (marks[piece] - marks[piece - 1]) for piece in range(1, pieces + 1)], put


if __name__ == "__main__":
    main()
