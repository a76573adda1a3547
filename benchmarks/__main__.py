"""`make bench`: every benchmark, one after the other, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

ALL = ("drain", "recording", "limits", "latency", "recovery", "stop", "images")


def main() -> int:
    chosen = [name for name in sys.argv[1:] if name in ALL] or ALL
    urls = [argument for argument in sys.argv[1:] if argument not in ALL]
    ends = []
    for name in chosen:
        given = [] if name == "images" else urls
        ends.append(
            subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}", *given], check=False
            ).returncode
        )
    return max(ends)


if __name__ == "__main__":
    sys.exit(main())
