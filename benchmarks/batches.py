"""Batches: the rate of dispatching members and its memory, the delay of the callback, and the
counts when workers are killed.

    python -m benchmarks.batches rate [URL …]        BENCH_MEMBERS=100000
    python -m benchmarks.batches callback [URL …]    from the last member's end to the callback
    python -m benchmarks.batches kills [URL …]       BENCH_MEMBERS=10000: kill a worker every second

`rate` compares a batch with single `apply_async` calls of the same task and with Celery's group. On
Redis, `rate` and `callback` compare with stock Celery's chord, too. Each row of `rate` is measured
in its own process.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from kombu.transport import TRANSPORT_ALIASES

from benchmarks.stage import QUEUE, Stage, Worker, brokers, table, until

MEMBERS = int(os.environ.get("BENCH_MEMBERS", "0"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))


def main() -> None:
    kind, urls = (sys.argv[1:2] or ["rate"])[0], sys.argv[2:]
    with brokers(urls) as found:
        for name, url in found.items():
            {"rate": rate, "callback": callback, "kills": kills}[kind](name, url)


def fork_and_run(work: Callable[..., Any], *given: Any) -> Any:
    """The result of `work` in a process of its own, with its own app and memory."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    if os.fork() == 0:
        os.write(writing, json.dumps(work(*given)).encode())
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:  # noqa: PTH123  a pipe
        text = answer.read()
    os.wait()
    return json.loads(text)


def app_of(stage: Stage) -> Any:
    """The app of the benchmark's workers, in this process."""
    os.environ.update(
        {key: value for key, value in stage.environ.items() if key.startswith("BENCH_")}
    )
    if "BENCH_STOCK" in stage.environ:
        TRANSPORT_ALIASES["redis"] = (
            "kombu.transport.redis:Transport"  # which the stage has made ours
        )
    from benchmarks.jobs import app  # noqa: PLC0415  it reads the environment

    return app


def stock(url: str) -> Stage:
    """Stock Celery, with the result backend that its chord needs."""
    return Stage(url, BENCH_STOCK="1", BENCH_RESULTS=url)


# --- handing in -----------------------------------------------------------------------------------
def rate(name: str, url: str) -> None:
    """Members a second: single calls, Celery's group, a batch, and stock Celery's chord."""
    count = MEMBERS or 100_000
    few = max(count // 50, 100)
    rows = [(how, *fork_and_run(dispatch_rate, url, how, few)) for how in ("apply_async", "group")]
    rows.append(("batch", *fork_and_run(dispatch_rate, url, "batch", count)))
    if name == "redis":
        rows.append(
            ("chord of stock Celery", *fork_and_run(dispatch_rate, url, "chord", count // 5))
        )
    one_by_one = rows[0][2]
    shown = [
        (
            how,
            f"{number:,}",
            f"{each:,.0f}",
            f"{each / one_by_one:.1f}",
            f"{before} MB",
            f"{peak} MB",
        )
        for how, number, each, before, peak in rows
    ]
    table(
        f"{name}: handing in",
        ["how", "jobs", "jobs/s", "times one by one", "memory before", "peak"],
        shown,
    )


def dispatch_rate(url: str, how: str, count: int) -> tuple[int, float, int, int]:
    """The members, their rate, and the memory of this process before and at its peak."""
    from celery import chord, group  # noqa: PLC0415

    stage = stock(url) if how == "chord" else Stage(url)
    app = app_of(stage)
    member, told = app.tasks["bench.member"], app.tasks["bench.told"]
    ways: dict[str, Callable[[], Any]] = {
        "apply_async": lambda: [member.apply_async((n,)) for n in range(count)],
        "group": lambda: group(member.s(n) for n in range(count)).apply_async(),
        "batch": lambda: app.batch(member.s(n) for n in range(count)).then(told.s(1)).dispatch(),
        "chord": lambda: chord(
            (member.s(n).set(ignore_result=False) for n in range(count)), told.s(1)
        ).apply_async(),
    }
    member.apply_async((0,))  # what is made at the first
    before, began = memory(), time.perf_counter()
    ways[how]()
    took = time.perf_counter() - began
    peak = memory()
    stage.clear()
    return count, count / took, before, peak


def memory() -> int:
    """The peak of this process's memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


# --- the callback ---------------------------------------------------------------------------------
def callback(name: str, url: str) -> None:
    """Milliseconds from the last member's end to the callback's start, on an idle worker."""
    rows = [("batch", *fork_and_run(callback_delay, url, False))]
    if name == "redis":
        rows.append(("chord of stock Celery", *fork_and_run(callback_delay, url, True)))
    shown = [(how, ROUNDS, *(f"{ms:,.0f}" for ms in found)) for how, *found in rows]
    table(
        f"{name}: from the last member's end to the callback",
        ["how", "rounds", "p50 ms", "max ms"],
        shown,
    )


def callback_delay(url: str, as_stock: bool) -> tuple[float, float]:
    from celery import chord  # noqa: PLC0415

    stage = stock(url) if as_stock else Stage(url)
    app, found = app_of(stage), []
    member, told = app.tasks["bench.ending"], app.tasks["bench.told"]
    with stage.worker("-c", "2") as worker:
        for number in range(ROUNDS):
            members = (member.si(each) for each in range(MEMBERS or 100))
            if as_stock:
                chord(
                    [each.set(ignore_result=False) for each in members], told.s(number)
                ).apply_async()
            else:
                app.batch(members).then(told.s(number)).dispatch()
            until(lambda number=number: number in stage.facts("told"), worker)
            found.append((stage.facts("told")[number] - max(stage.facts("end").values())) * 1000)
    stage.clear()
    return statistics.median(found), max(found)


# --- kills ----------------------------------------------------------------------------------------
def kills(name: str, url: str) -> None:
    """The final counts of a batch of no-ops whose worker is killed every second."""
    columns = [
        "members",
        "kills",
        "total",
        "completed",
        "failed",
        "dropped",
        "callbacks",
        "run again",
        "took",
    ]
    table(
        f"{name}: a worker killed every second", columns, [fork_and_run(killed_every_second, url)]
    )


def killed_every_second(url: str) -> tuple[Any, ...]:
    count = MEMBERS or 10_000
    stage = Stage(url, BENCH_LEASE="1")
    app = app_of(stage)
    noop, told = app.tasks["bench.member"], app.tasks["bench.told"]
    batch = (
        app.batch(noop.s(n) for n in range(count))
        .then(told.s(1))
        .catch(told.s(2))
        .finally_(told.s(3))
        .dispatch()
    )
    killed, began = 0, time.monotonic()
    while not batch.refresh().finished:
        worker = Worker(stage, ("-c", "2"))
        until(lambda worker=worker: worker.pid in stage.facts("ready"), worker)
        time.sleep(1)
        if batch.refresh().finished:
            worker.stop()
        else:
            killed += 1
            worker.kill()
    with stage.worker("-c", "2"):
        until(lambda: {1, 3} <= {*stage.counted("told"), *stage.counted("again")})
        until(lambda: not sum(_sizes(stage)))
    return (
        count,
        killed,
        batch.total,
        batch.completed,
        batch.failed,
        batch.dropped,
        f"{sorted(stage.counted('told'))}",
        len(stage.counted("again")),
        f"{time.monotonic() - began:.0f} s",
    )


def _sizes(stage: Stage) -> tuple[int, int, int]:
    sizes = stage.driver.sizes(QUEUE)
    return sizes.pending, sizes.delayed, sizes.reserved


if __name__ == "__main__":
    main()
