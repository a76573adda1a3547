"""The base of all benchmarks of workers: a broker, a journal, a worker process and its cost, a
table.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
from kombu.utils.json import dumps

from relevo import drivers
from relevo.drivers.contract import NewJob, State
from relevo.transport import registration
from tests.support import servers

ROOT = Path(__file__).resolve().parents[1]
QUEUE = "bench"
WITHIN = 300.0
registration.register_transport()


@contextlib.contextmanager
def brokers(urls: Iterable[str]) -> Iterator[dict[str, str]]:
    """Broker name -> url: the given ones, or a temporary SQLite file, PostgreSQL and Redis.

    A name without an url, like `mariadb`, is a temporary server, too.
    """
    with contextlib.ExitStack() as stack:
        found = {url.partition(":")[0]: url for url in urls or ("sqlite", "postgresql", "redis")}
        for name in [name for name, url in found.items() if name == url]:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="relevo-bench-"))
            sqlite = name == "sqlite"
            found[name] = (
                f"sqlite:///{folder}/broker.db"
                if sqlite
                else stack.enter_context(getattr(servers, name)())
            )
        for url in found.values():
            driver = drivers.driver_for(url)
            if hasattr(driver, "create_schema"):
                driver.create_schema()
        yield found


class Stage:
    """One broker with one queue, and the journal of the jobs that ran."""

    def __init__(self, url: str, **environ: str) -> None:
        self.url = url
        self.folder = tempfile.TemporaryDirectory(prefix="relevo-bench-")
        self.journal = Path(self.folder.name, "journal")
        # Beside the jobs, where they are in a database.
        store = f"sqlite:///{self.folder.name}/store.db" if url.startswith("redis") else url
        self.environ = {
            **os.environ,
            "BENCH_BROKER": url,
            "BENCH_STORE": store,
            "BENCH_JOURNAL": str(self.journal),
            **environ,
        }

    @property
    def driver(self) -> Any:
        return drivers.driver_for(self.url)

    def put(self, name: str, arguments: Iterable[list[Any]]) -> None:
        """Put many jobs in few steps, in the form in which a client publishes them."""
        jobs = [new_job(name, args) for args in arguments]
        for start in range(0, len(jobs), 1000):
            self.driver.put(jobs[start : start + 1000])

    def clear(self) -> None:
        """Delete all jobs: the waiting ones, and those that a killed worker held, which would run
        again.
        """
        self.driver.clear(QUEUE)
        self.driver.delete([view.id for view in self.driver.peek(QUEUE, State.RESERVED, 1_000_000)])
        self.journal.unlink(missing_ok=True)

    def lines(self) -> list[tuple[str, int, float]]:
        text = self.journal.read_text() if self.journal.exists() else ""
        rows = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [(word, int(number), float(at)) for word, number, at in rows]

    def facts(self, word: str) -> dict[int, float]:
        """Number -> the time of its last line of this word."""
        return {number: at for said, number, at in self.lines() if said == word}

    def counted(self, word: str) -> list[int]:
        return [number for said, number, _ in self.lines() if said == word]

    @contextlib.contextmanager
    def worker(self, *options: str) -> Iterator[Worker]:
        """A worker that is ready. It is killed at the end of the block if it still runs."""
        with self.starting(*options) as worker:
            until(lambda: worker.pid in self.facts("ready"), worker)
            yield worker

    @contextlib.contextmanager
    def starting(self, *options: str) -> Iterator[Worker]:
        worker = Worker(self, options)
        try:
            yield worker
        finally:
            worker.kill()


class Worker:
    """A worker process in its own session."""

    def __init__(self, stage: Stage, options: tuple[str, ...]) -> None:
        self.log = Path(stage.folder.name, f"worker-{uuid.uuid4().hex[:6]}.log")
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "benchmarks.jobs",
            "worker",
            "-Q",
            QUEUE,
            "-l",
            "WARNING",
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-n", f"{uuid.uuid4().hex[:6]}@localhost", *options],
                env=stage.environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def cpu(self) -> float:
        """CPU seconds of the main process and its children so far."""
        main = psutil.Process(self.pid)
        return sum(
            sum(process.cpu_times()[:2]) for process in [main, *main.children(recursive=True)]
        )

    def stop(self) -> float:
        """Stop warmly. Returns the seconds until the process is gone."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WITHIN)
        return time.monotonic() - started

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def until(condition: Callable[[], Any], worker: Worker | None = None, pause: float = 0.02) -> None:
    """Wait until the condition holds. After WITHIN seconds, or when the worker has ended, end the
    benchmark with the worker's log.
    """
    deadline = time.monotonic() + WITHIN
    while not condition():
        if time.monotonic() > deadline or (worker and worker.process.poll() is not None):
            sys.exit(worker.log.read_text()[-4000:] if worker else f"waited {WITHIN:.0f} s")
        time.sleep(pause)


def message(name: str, args: list[Any]) -> tuple[str, dict[str, Any]]:
    """The id and the kombu message of one job, with its body as text."""
    job_id = str(uuid.uuid4())
    return job_id, {
        "body": dumps(
            [args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
        ),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": name,
            "id": job_id,
            "root_id": job_id,
            "parent_id": None,
            "group": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": repr(args),
            "kwargsrepr": "{}",
            "ignore_result": True,
            "origin": "bench",
            "eta": None,
            "expires": None,
        },
        "properties": {
            "correlation_id": job_id,
            "reply_to": "",
            "delivery_mode": 2,
            "priority": 0,
            "body_encoding": "utf-8",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "delivery_tag": job_id,
        },
    }


def new_job(name: str, args: list[Any]) -> NewJob:
    job_id, made = message(name, args)
    return NewJob(QUEUE, dumps(made), job_id)


def table(title: str, heads: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print a small table."""
    cells = [heads, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    print(f"\n{title}")
    for row in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
