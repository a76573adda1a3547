"""Huey: two worker processes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from huey import RedisHuey

from benchmarks.peers import marks

huey = RedisHuey("bench", url=marks.url(), results=False)
_consumer = str(Path(sys.executable).with_name("huey_consumer"))
WORKERS = {
    "huey, 2 processes": [
        sys.executable,
        _consumer,
        "benchmarks.peers.huey_.huey",
        "-w",
        "2",
        "-k",
        "process",
        "-q",
    ],
}


@huey.task()
def tick():
    marks.tick()


@huey.task()
def stamp(sent):
    marks.stamp(sent)


def enqueue(count: int) -> None:
    for _ in range(count):
        tick()


def trickle() -> None:
    stamp(time.time())
