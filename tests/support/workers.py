"""Real workers for the tests of faults: a broker, a journal, and processes on them.

    site = Site(url, folder)                # one queue, one journal
    site.dispatch("work", range(10))        # jobs, put in one step
    with site.worker("-c", "2") as worker:  # a `celery worker` in a session of its own
        site.until(lambda: site.ended >= set(range(10)))

Nothing here sleeps: `until` checks a condition until it holds, and fails when it never does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from relevo.drivers import driver_for, message_codec
from relevo.drivers.contract import Driver, NewJob, Placed
from relevo.errors import DriverUnavailableError
from relevo.store import failed
from relevo.store.failed import FailedJob
from relevo.store.store import store_for
from tests.support import servers
from tests.support.programs import start
from tests.support.waits import eventually, stacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LEASE = 1.0
EVERYTHING = 100_000


class Site:
    """One queue of a broker, the journal of its jobs, and the workers on it."""

    def __init__(
        self,
        url: str,
        folder: Path,
        lease: float = LEASE,
        options: dict[str, Any] | None = None,
        ssl: dict[str, str] | None = None,
    ) -> None:
        """`options` are kombu's transport options, `ssl` Celery's `broker_use_ssl`, for the workers
        and for this process.
        """
        self.url, self.folder, self.lease = url, folder, lease
        self.options, self.ssl = options or {}, ssl
        self.schedule: dict[str, Any] = {}  # the entries of its beats
        self.config: dict[str, Any] = {}  # more of Celery's settings, for its workers
        self.keeps_results = False  # whether the jobs' results are stored
        self.queue = f"faults-{uuid.uuid4().hex[:8]}"
        self.store_url = servers.sqlite_file(
            folder / "store.sqlite3"
        )  # a file for each site, on every broker
        self.journal = folder / f"{self.queue}.journal"
        self.ids: dict[int, str] = {}
        self.workers: list[Worker] = []
        self._lines: list[tuple[str, Any, int, float]] = []
        self._read = 0  # bytes of the journal

    # --- the broker -------------------------------------------------------------------------------
    @property
    def driver(self) -> Driver:
        return driver_for(self.url, self.options, self.ssl)

    def dispatch(
        self, name: str, numbers: Iterable[int], *args: Any, **unique: Any
    ) -> list[Placed]:
        """Put one job `name(number, *args)` for each number, in one step. `unique` are the fields
        of its key.
        """
        self.ids |= {number: str(uuid.uuid4()) for number in numbers}
        return self.driver.put([self._job(name, number, args, unique) for number in numbers])

    def _job(self, name: str, number: int, args: tuple[Any, ...], unique: dict[str, Any]) -> NewJob:
        payload = payload_of(name, self.ids[number], [number, *args], self.queue)
        if not unique and not self.keeps_results:
            return NewJob(self.queue, payload, self.ids[number])
        message = json.loads(payload)
        message["headers"]["ignore_result"] = not self.keeps_results
        if not unique:
            return NewJob(self.queue, json.dumps(message), self.ids[number])
        message["headers"][message_codec.HEADER] = {"unique": unique}
        return message_codec.to_job(self.queue, message)

    def sizes(self) -> tuple[int, int, int]:
        """How many jobs are pending, delayed and reserved."""
        sizes = self.driver.sizes(self.queue)
        return sizes.pending, sizes.delayed, sizes.reserved

    def empty(self) -> bool:
        """Whether no job is left. A broker that some tests give little time may miss one."""
        with contextlib.suppress(DriverUnavailableError):
            return self.sizes() == (0, 0, 0)
        return False

    def failed(self) -> list[FailedJob]:
        """The jobs that have failed for good."""
        return failed.page(store_for(self.store_url), limit=EVERYTHING)

    # --- the journal ------------------------------------------------------------------------------
    def facts(self, fact: str) -> list[Any]:
        """The numbers of all lines of this kind, in the order written."""
        return [number for kind, number, _pid, _time in self.lines() if kind == fact]

    def lines(self) -> list[tuple[str, Any, int, float]]:
        """The lines so far. Each is parsed once, as tests read them fifty times a second."""
        if self.journal.exists():
            with self.journal.open("rb") as journal:
                journal.seek(self._read)
                whole = journal.read().rpartition(b"\n")[0]
            self._lines += [tuple(json.loads(line)) for line in whole.splitlines()]
            self._read += len(whole) + 1 if whole else 0
        return self._lines

    @property
    def started(self) -> Counter[int]:
        """Job -> how often it was started."""
        return Counter(self.facts("start"))

    @property
    def ended(self) -> set[int]:
        return set(self.facts("end"))

    def running(self) -> set[int]:
        """Jobs with more starts than ends."""
        ends = Counter(self.facts("end"))
        return {number for number, starts in self.started.items() if starts > ends[number]}

    def twice(self) -> set[int]:
        return {number for number, starts in self.started.items() if starts > 1}

    # --- processes --------------------------------------------------------------------------------
    @contextlib.contextmanager
    def worker(self, *options: str) -> Iterator[Worker]:
        """A worker that takes jobs. It is killed at the end of the block unless it has ended."""
        with self.starting(*options) as worker:
            worker.until_noted("ready")
            yield worker

    @contextlib.contextmanager
    def starting(self, *options: str, command: str = "worker") -> Iterator[Worker]:
        """A process that has just been started: `celery worker`, `work` or `beat`."""
        worker = Worker(self, options, command)
        self.workers.append(worker)
        try:
            yield worker
        finally:
            worker.kill()

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Wait until `condition` holds; returns its value. Fails with the workers' logs."""
        return eventually(condition, lambda: f"{what}\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(
            f"--- {worker.pid}\n{worker.log.read_text()[-6000:]}" for worker in self.workers
        )


class Worker:
    """A `celery worker` process and its children, in a session of their own."""

    def __init__(self, site: Site, options: tuple[str, ...], verb: str = "worker") -> None:
        self.site = site
        name = uuid.uuid4().hex[:8]
        self.log = site.folder / f"worker-{name}.log"
        environ = {
            "FAULTS_BROKER": site.url,
            "FAULTS_LEASE": str(site.lease),
            "FAULTS_QUEUE": site.queue,
            "FAULTS_JOURNAL": str(site.journal),
            "FAULTS_OPTIONS": json.dumps(site.options),
            "FAULTS_SSL": json.dumps(site.ssl),
            "FAULTS_STORE": site.store_url,
            "FAULTS_SCHEDULE": json.dumps(site.schedule),
            "FAULTS_CONFIG": json.dumps(site.config),
        }
        command = [
            "-A",
            "tests.support.apps.journal",
            verb,
            "-l",
            "INFO",
            "-n",
            f"{name}@localhost",
        ]
        command += ["-Q", site.queue] if verb != "beat" else []
        with self.log.open("ab") as log:
            self.process = start(
                "-m", "celery", *command, *options, environ=os.environ | environ, output=log
            )
        self.pid = self.process.pid

    def until_noted(self, fact: str) -> None:
        self.site.until(
            lambda: self._noted(fact) or not self.alive(), f"for {fact!r} of {self.pid}"
        )
        assert self._noted(fact), f"the worker ended:\n{self.log.read_text()}"

    def _noted(self, fact: str) -> bool:
        return any(kind == fact and pid == self.pid for kind, _, pid, _ in self.site.lines())

    def alive(self) -> bool:
        return self.process.poll() is None

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def signal(self, signum: signal.Signals) -> None:
        os.kill(self.pid, signum)

    def ended(self) -> int:
        """Wait for the main process and its children to end; returns the main process's exit code
        (-9: killed).
        """
        eventually(
            lambda: not self.alive() and not session(self.pid), lambda: stacks(self.pid, self.log)
        )
        return self.process.wait()

    def stop(self) -> int:
        """Stop the worker warmly, and wait for its end."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        """Kill -9 the main process and every child."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.ended()


def session(leader: int) -> list[int]:
    """The processes of a session that are alive (a zombie isn't)."""
    found = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def payload_of(name: str, job_id: str, args: list[Any], queue: str) -> str:
    """The message that a Celery client would publish for this job."""
    body = json.dumps(
        [args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    )
    headers = {
        "lang": "py",
        "task": name,
        "id": job_id,
        "root_id": job_id,
        "retries": 0,
        "ignore_result": True,
    }
    properties = {
        "correlation_id": job_id,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "utf-8",
    }
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )
