"""What the jobs do: write a byte, or a latency, to a file. It takes about 2 microseconds."""

from __future__ import annotations

import functools
import os
import struct
import time


@functools.cache
def _file(name: str) -> int:
    return os.open(os.environ[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def tick() -> None:
    """One job has run."""
    os.write(_file("BENCH_TICKS"), b".")


def stamp(sent: float) -> None:
    """One job has started, so many seconds after it was sent."""
    os.write(_file("BENCH_LATENCIES"), struct.pack("d", time.time() - sent))


def url() -> str:
    """The Redis of this benchmark."""
    return os.environ["BENCH_REDIS"]
