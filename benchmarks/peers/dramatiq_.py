"""Dramatiq: two processes of eight threads, its default number of threads."""

from __future__ import annotations

import sys
import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers import marks

dramatiq.set_broker(RedisBroker(url=marks.url()))
_worker = [sys.executable, "-m", "dramatiq", "benchmarks.peers.dramatiq_", "-p", "2", "-t", "8"]
WORKERS = {"dramatiq, 2 x 8 threads": _worker}


@dramatiq.actor
def tick():
    marks.tick()


@dramatiq.actor
def stamp(sent):
    marks.stamp(sent)


def enqueue(count: int) -> None:
    for _ in range(count):
        tick.send()


def trickle() -> None:
    stamp.send(time.time())
