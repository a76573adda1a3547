"""The client of one system, in a process of its own.

python -m benchmarks.peers MODULE workers|enqueue N|bulk N|awaited N|gathered N|trickle N [WARM]

WARM: so many jobs are handed in first, before the clock starts.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import time

PUTS = {
    "enqueue": "enqueue",
    "bulk": "enqueue_bulk",
    "awaited": "enqueue_awaited",
    "gathered": "enqueue_gathered",
}


def main() -> None:
    """Print the workers as JSON, or hand jobs in and print how many seconds that took."""
    module = importlib.import_module(f"benchmarks.peers.{sys.argv[1]}")
    verb, count = sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0
    if verb == "workers":
        print(json.dumps(module.WORKERS))
        return
    put = None if verb == "trickle" else getattr(module, PUTS[verb])
    if put is not None and len(sys.argv) > 4:
        put(int(sys.argv[4]))
    started = time.perf_counter()
    if put is not None:
        put(count)
    else:
        for _ in range(count):
            module.trickle()
            time.sleep(random.uniform(0.05, 0.15))
    print(time.perf_counter() - started)


main()
