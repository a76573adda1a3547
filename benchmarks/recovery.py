"""The time until the jobs of a worker that was killed with -9 run on another one, with a lease of 5
s.

    python -m benchmarks.recovery [URL …]       BENCH_ROUNDS=3

Four jobs run on the first worker, and more wait behind them. The second worker is idle when the
first one is killed.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.stage import Stage, brokers, table, until

ROUNDS, LEASE = int(os.environ.get("BENCH_ROUNDS", "3")), 5.0
LONG, SHORT = range(4), range(4, 40)


def main() -> None:
    with brokers(sys.argv[1:]) as urls:
        rows = [
            row(name, [killed(Stage(url, BENCH_LEASE=str(LEASE))) for _ in range(ROUNDS)])
            for name, url in urls.items()
        ]
    heads = ["broker", "seconds until all run again", "min", "max", "held", "started twice", "lost"]
    table(
        f"kill -9 with a lease of {LEASE:.0f} s, {ROUNDS} rounds (medians; counts of all)",
        heads,
        rows,
    )


def killed(stage: Stage) -> tuple[float, int, int]:
    """Seconds until the last job ran again; the jobs that started twice, and the lost ones."""
    stage.clear()
    gate = Path(stage.folder.name, f"gate {time.time()}")
    stage.put("bench.hold", [[number, str(gate)] for number in LONG])
    with stage.worker("-c", "4") as first:
        until(lambda: len(stage.counted("start")) == len(LONG), first)
        with stage.worker("-c", "4") as second:
            first.kill()
            at = time.time()
            stage.put("bench.work", [[number] for number in SHORT])
            until(lambda: len(stage.counted("start")) == 2 * len(LONG) + len(SHORT), second)
            gate.touch()
            until(lambda: len(stage.facts("end")) == len(LONG) + len(SHORT), second)
    again = max(started for number, started in stage.facts("start").items() if number in LONG)
    twice = sum(times > 1 for times in Counter(stage.counted("start")).values())
    return again - at, twice, len({*LONG, *SHORT} - set(stage.facts("end")))


def row(name: str, rounds: list[tuple[float, int, int]]) -> tuple[str, ...]:
    seconds, twice, lost = zip(*rounds, strict=True)
    figures = [
        f"{figure:.1f}" for figure in (statistics.median(seconds), min(seconds), max(seconds))
    ]
    return name, *figures, str(len(LONG) * ROUNDS), str(sum(twice)), str(sum(lost))


if __name__ == "__main__":
    main()
