"""The tasks of the benchmarks' workers. With BENCH_STOCK=1 the same tasks run on stock Celery, for
comparison.

The journal is a file to which every process appends. A line has a word, a number and the time.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from celery import Celery, signals
from sqlalchemy import Engine, event

from relevo import config
from relevo.app import create_app
from relevo.middleware import WithoutOverlapping

BROKER, JOURNAL = os.environ["BENCH_BROKER"], os.environ["BENCH_JOURNAL"]
QUEUE = "bench"
COMMON = {"broker_url": BROKER, "task_default_queue": QUEUE, "worker_hijack_root_logger": False}

if os.environ.get("BENCH_STOCK"):
    stock = {
        "task_acks_late": True,
        "task_ignore_result": True,
        "result_backend": os.environ.get("BENCH_RESULTS"),
    }
    app = Celery("bench", set_as_current=True, changes={**COMMON, **stock})
else:
    lease = float(os.environ.get("BENCH_LEASE", "30"))
    history = os.environ.get("BENCH_HISTORY", "all")
    environ = {
        "QUEUE_RESULTS": "none",
        "DATABASE_URL": os.environ["BENCH_STORE"],
        "RELEVO_HISTORY": history,
    }
    settings = config.load(environ, env_file=None)
    app = create_app("bench", settings, **COMMON, broker_transport_options={"lease": lease})


def note(word: str, number: int = 0) -> None:
    """Append one line to the journal, in one write."""
    journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(journal, f"{word} {number} {time.time():.6f}\n".encode())
    os.close(journal)


@signals.worker_ready.connect
def _ready(**_) -> None:
    note("ready", os.getpid())


@app.task(name="bench.noop", ignore_result=True)
def noop() -> None:
    """Do nothing."""


if not os.environ.get("BENCH_STOCK"):

    @app.task(
        name="bench.limited", ignore_result=True, middleware=[WithoutOverlapping(at_most=100)]
    )
    def limited() -> None:
        """Do nothing, under a permit that is always free."""

    @app.task(name="bench.few", ignore_result=True, middleware=[WithoutOverlapping(at_most=4)])
    def few() -> None:
        """Do nothing, under one of four permits."""

    @app.task(name="bench.alone", ignore_result=True, middleware=[WithoutOverlapping(by="whose")])
    def alone(whose: int) -> None:
        """Do nothing, without overlapping with its own kind."""


@app.task(name="bench.member", ignore_result=True)
def member(number: int) -> None:
    """Do nothing, as a member of a batch."""


@app.task(name="bench.ending", ignore_result=True)
def ending(number: int) -> None:
    """Note when a member has ended."""
    note("end", number)


@app.task(name="bench.told", ignore_result=True, bind=True)
def told(self: Any, batch: Any, number: int) -> None:  # noqa: ARG001  as callbacks are called
    """Note that a callback was called, as `again` if the job was delivered again after a kill."""
    note("again" if (self.request.delivery_info or {}).get("redelivered") else "told", number)


@app.task(name="bench.mark", ignore_result=True)
def mark(number: int) -> None:
    """Note when this job ran. One stands before the counted jobs, one behind them."""
    note("mark", number)


@app.task(name="bench.work", ignore_result=True)
def work(number: int, seconds: float = 0.0) -> None:
    note("start", number)
    time.sleep(seconds)
    note("end", number)


@app.task(name="bench.hold", ignore_result=True)
def hold(number: int, gate: str) -> None:
    """Run until the file `gate` exists."""
    note("start", number)
    while not Path(gate).exists():
        time.sleep(0.02)
    note("end", number)


@app.task(name="bench.since", ignore_result=True)
def since(dispatched: float) -> None:
    """Note the microseconds from the dispatch to this line."""
    note("since", round((time.time() - dispatched) * 1e6))


class Statements:
    """Counts the statements that this process sends to its database; noted twice a second."""

    def __init__(self) -> None:
        self.count = 0
        event.listen(Engine, "connect", self.connected)
        event.listen(Engine, "before_cursor_execute", self.executing)
        threading.Thread(target=self.report, daemon=True).start()

    def connected(self, connection: Any, _record: Any) -> None:
        if isinstance(
            connection, sqlite3.Connection
        ):  # the subscription asks SQLite without SQLAlchemy
            connection.set_trace_callback(self.one)

    def executing(self, connection: Any, *_: Any) -> None:
        if connection.dialect.name != "sqlite":
            self.one()

    def one(self, *_: Any) -> None:
        self.count += 1

    def report(self) -> None:
        while True:
            note("statements", self.count)
            time.sleep(0.5)


@signals.worker_init.connect
def _count(**_: Any) -> None:
    if os.environ.get("BENCH_STATEMENTS"):
        Statements()


if folder := os.environ.get("BENCH_FILES"):
    from benchmarks.files_entered import Recorder

    Recorder(folder).record()
