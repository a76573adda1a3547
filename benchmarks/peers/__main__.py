"""The client of one system, in a process of its own.

python -m benchmarks.peers MODULE workers|enqueue N|bulk N|trickle N
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import time


def main() -> None:
    """Print the workers as JSON, or hand jobs in and print how many seconds that took."""
    module = importlib.import_module(f"benchmarks.peers.{sys.argv[1]}")
    verb, count = sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0
    if verb == "workers":
        print(json.dumps(module.WORKERS))
        return
    started = time.perf_counter()
    if verb == "trickle":
        for _ in range(count):
            module.trickle()
            time.sleep(random.uniform(0.05, 0.15))
    else:
        (module.enqueue if verb == "enqueue" else module.enqueue_bulk)(count)
    print(time.perf_counter() - started)


main()
