"""What a dispatch costs on Redis, beside stock Celery and Dramatiq: `python -m benchmarks.dispatch
[--jobs N] [--rounds N]`.

Nothing is run. The clients take turns, round after round, each in a process of its own; the table
has the median rates of jobs a second, and the ratios of each round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from redis import Redis

from benchmarks.compare import Bench, peers_python

# Label, module of benchmarks/peers, verb.
SIDES = [
    ("stock Celery, one by one", "celery_", "enqueue"),
    ("Dramatiq, one by one", "dramatiq_", "enqueue"),
    ("`dispatch`, one by one", "relevo_", "enqueue"),
    ("`adispatch`, one by one", "relevo_", "awaited"),
    ("`adispatch`, 100 at once", "relevo_", "gathered"),
]
STOCK, DRAMATIQ, ONE, AWAITED, GATHERED = (label for label, _, _ in SIDES)
GOALS = [
    (ONE, STOCK, 2.5),
    (ONE, DRAMATIQ, 1.0),
    (GATHERED, AWAITED, 3.0),
    (GATHERED, ONE, None),
]


def main() -> None:
    """Run the rounds and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--jobs", type=int, default=3000)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    rates: dict[str, list[float]] = {label: [] for label, _, _ in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.jobs, 0)
        server = bench.start_redis()
        try:
            for _ in range(given.rounds):
                for label, module, verb in SIDES:
                    Redis(port=bench.port).flushall()
                    python = peers_python() if module == "dramatiq_" else sys.executable
                    took = float(bench.client(python, module, verb, str(given.jobs), "100"))
                    rates[label].append(given.jobs / took)
        finally:
            server.terminate()
            server.wait()
    print("| client | jobs/s | min | max |\n|---|---|---|---|")
    for label, seen in rates.items():
        print(f"| {label} | {statistics.median(seen):,.0f} | {min(seen):,.0f} | {max(seen):,.0f} |")
    print("\n| ratio | median | min | max | goal |\n|---|---|---|---|---|")
    for over, under, goal in GOALS:
        ratios = [one / other for one, other in zip(rates[over], rates[under], strict=True)]
        shown = " | ".join(
            f"{each:.2f}" for each in (statistics.median(ratios), min(ratios), max(ratios))
        )
        print(f"| {over} to {under} | {shown} | {goal or ''} |")


if __name__ == "__main__":
    main()
