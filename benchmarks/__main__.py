"""Runs benchmarks one after the other, each in its own process.

    python -m benchmarks [NAME …] [URL …]

Without a name it runs those of USUAL. The others take longer, or install packages to compare with.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

USUAL = (
    "drain",
    "recording",
    "limits",
    "latency",
    "recovery",
    "stop",
    "images",
    "files_entered",
)


def main() -> int:
    given = sys.argv[1:]
    names = [name for name in given if Path(__file__).with_name(f"{name}.py").exists()]
    urls = [argument for argument in given if argument not in names]
    codes = []
    for name in names or USUAL:
        print(f"== {name}", flush=True)
        arguments = [] if name == "images" else urls
        ended = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *arguments], check=False
        )
        codes.append(ended.returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
