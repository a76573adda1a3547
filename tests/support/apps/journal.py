"""The app of the workers that tests/faults kill, stop and starve: its tasks note their starts and
ends.

The journal is one file, opened with O_APPEND: the lines of several processes stay whole and in
order, and a line stays when its writer is killed. The environment names the broker, the queue and
the journal.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from celery import signals

from relevo import config
from relevo.app import create_app
from relevo.dispatch.transactions import after_commit
from relevo.limits.rates import Rate
from relevo.middleware import RateLimited, ThrottleErrors, Transaction, WithoutOverlapping, session

BROKER, LEASE = os.environ["FAULTS_BROKER"], float(os.environ["FAULTS_LEASE"])
QUEUE, JOURNAL = os.environ["FAULTS_QUEUE"], os.environ["FAULTS_JOURNAL"]

app = create_app(
    "faults",
    config.load(
        {"QUEUE_RESULTS": "database", "DATABASE_URL": os.environ["FAULTS_STORE"]}, env_file=None
    ),
    task_ignore_result=True,  # but for the members of chords, and jobs whose message asks for them
    broker_url=BROKER,
    **json.loads(os.environ.get("FAULTS_CONFIG", "{}")),
    broker_transport_options={"lease": LEASE, **json.loads(os.environ.get("FAULTS_OPTIONS", "{}"))},
    broker_use_ssl=json.loads(os.environ.get("FAULTS_SSL", "null")),
    task_default_queue=QUEUE,
    worker_lost_wait=0.1,  # instead of Celery's 10 s, before a killed child's job counts as lost
    worker_hijack_root_logger=True,
    limits={"five": Rate.of("5/second", "moving"), "daily": Rate.of("5/day", "moving")},
    beat_schedule=json.loads(os.environ.get("FAULTS_SCHEDULE", "{}")),
)


def note(fact: str, number: Any = None) -> None:
    """Append one line to the journal, at once."""
    line = json.dumps([fact, number, os.getpid(), time.time()]) + "\n"
    journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(journal, line.encode())
    finally:
        os.close(journal)


@signals.worker_init.connect
def _starting(**_: Any) -> None:
    note("starting")


@signals.worker_ready.connect
def _ready(**_: Any) -> None:
    note("ready")


@signals.worker_shutting_down.connect
def _stopping(**_: Any) -> None:
    note("stopping")


@signals.heartbeat_sent.connect
def _beating(**_: Any) -> None:
    note("heartbeat")


@app.task(name="work")
def work(number: int, seconds: float = 0.0) -> None:
    note("start", number)
    time.sleep(seconds)
    note("end", number)


@app.task(name="nap")
def nap(number: int, seconds: float = 0.0) -> None:
    """Do as `work`, for a test that pauses a whole task on a shared server."""
    work(number, seconds)


@app.task(name="hold")
def hold(number: int, gate: str) -> None:
    """Run until the file `gate` exists: the test decides how long the job lasts."""
    note("start", number)
    while not os.path.exists(gate):  # noqa: PTH110  polled by many jobs on a slow machine
        time.sleep(0.02)
    note("end", number)


@app.task(name="large")
def large(number: int, gate: str, size: int) -> None:
    """Do as `hold`, then raise an error of this number of characters."""
    hold(number, gate)
    raise ValueError("x" * size)


class UnshowableError(Exception):
    """An error that neither `str` nor `repr` can show."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


ENDINGS: dict[str, Callable[[], Any]] = {
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: throw(KeyboardInterrupt()),
    "cancelled": lambda: throw(asyncio.CancelledError()),
    "base": lambda: throw(BaseException("neither an Exception nor an exit")),
    "memory": lambda: throw(MemoryError()),
    "unshowable": lambda: throw(UnshowableError()),
    "huge": lambda: throw(ValueError("x" * 20_000_000)),
    "os-exit": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def throw(error: BaseException) -> None:
    raise error


@app.task(name="end")
def end(number: int, ending: str) -> None:
    """End in one of many ways."""
    note("start", number)
    ENDINGS[ending]()


@app.task(name="end.tries", tries=2, backoff=0)
def end_tries(number: int, ending: str) -> None:
    end(number, ending)


@end_tries.failed
def _end_failed(job: Any, _error: Any) -> None:
    note("failed", job.args[0])


@app.task(name="hostile", tries=2, backoff=0)
def hostile(number: int, text: str) -> None:
    """Fail with this text."""
    note("start", number)
    raise ValueError(text)


@hostile.failed
def _hostile_failed(job: Any, _error: Any) -> None:
    note("failed", job.args[0])


# Permits under a key of this test, as the server is shared.
@app.task(
    name="limited.work", tries=1, middleware=[WithoutOverlapping(at_most=3, key=f"work {QUEUE}")]
)
def limited_work(number: int, seconds: float = 0.0) -> None:
    work(number, seconds)


@app.task(name="limited.hold", tries=1, middleware=[WithoutOverlapping(key=f"hold {QUEUE}")])
def limited_hold(number: int, gate: str) -> None:
    hold(number, gate)


@app.task(name="limited.kill", tries=1, middleware=[WithoutOverlapping(key=f"kill {QUEUE}")])
def limited_kill(number: int, deadly: bool = False) -> None:
    note("start", number)
    if deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    note("end", number)


# Every kind of limit at once.
@app.task(
    name="limited.every",
    tries=1,
    middleware=[
        WithoutOverlapping(key=f"every {QUEUE}"),
        RateLimited("five", by=lambda *_: f"every {QUEUE}"),
        ThrottleErrors(1, per=0.5, key=f"every {QUEUE}"),
    ],
)
def limited_every(number: int, gate: str) -> None:
    hold(number, gate)


@app.task(name="limited.rate", tries=1, middleware=[RateLimited("five", by=lambda *_: QUEUE)])
def limited_rate(number: int) -> None:
    work(number)


@app.task(name="limited.daily", tries=1, middleware=[RateLimited("daily", by=lambda *_: QUEUE)])
def limited_daily(number: int) -> None:
    work(number)


@app.task(name="kill.child")
def kill_child(number: int) -> None:
    note("start", number)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="kill.child.tries", bind=True, tries=2, backoff=0)
def kill_child_tries(self: Any, number: int) -> None:
    note("start", number)
    os.kill(os.getpid(), signal.SIGKILL)


@kill_child_tries.failed
def _failed(job: Any, _error: Any) -> None:
    note("failed", job.args[0])


@app.task(name="kill.worker")
def kill_worker(number: int) -> None:
    """Kill the worker's main process, and this one: nothing can report how the job ended."""
    note("start", number)
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="member", ignore_result=True)
def member(number: int) -> None:
    """A member of a batch."""
    note("end", number)


@app.task(name="joined")
def joined(numbers: list[int]) -> None:
    """The body of a chord."""
    note("joined", numbers)


@app.task(name="part")
def part(number: int) -> int:
    """A member of a chord."""
    note("part", number)
    return number


@app.task(name="told.dies", bind=True, ignore_result=True)
def told_dies(self: Any, batch: str, what: str) -> None:
    """A callback whose worker is killed after its run and before its ack, the first time."""
    note("told", [what, self.request.id])
    _kill_worker_once(what)


@app.task(name="told.once", bind=True, ignore_result=True, middleware=[Transaction(once=True)])
def told_once(self: Any, batch: str, what: str) -> None:
    """The same with a receipt: the worker is killed after the commit of its transaction."""
    note("told", [what, self.request.id])
    after_commit(session(), lambda: _kill_worker_once(what))


def _kill_worker_once(what: str) -> None:
    gate = f"{JOURNAL}.{what}"
    if not os.path.exists(gate):  # noqa: PTH110  as above
        os.close(os.open(gate, os.O_CREAT | os.O_WRONLY, 0o600))
        kill_worker(0)


@app.task(name="told", ignore_result=True)
def told(batch: str, what: str) -> None:
    """A callback of a batch."""
    note("told", what)
