"""supervisor/*.conf, read by supervisor itself: programs are started, killed, restarted and
stopped.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xmlrpc.client import ServerProxy

import psutil
import pytest
from supervisor.options import ServerOptions
from supervisor.xmlrpc import SupervisorTransport

from relevo.drivers import driver_for
from tests.support import servers
from tests.support.programs import APPLICATION, run
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

# A module more in tasks/. Its jobs write down when they begin and end, and in which worker: one
# line a write, so that none is torn.
MARKS = """
import os
import time

from tasks import app

def note(path, line):
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)

@app.task(name="images.mark", tries=3)
def mark(path, number):
    note(path, f"start {number} {os.getppid()}\\n")
    time.sleep(0.1)
    note(path, f"end {number} {os.getppid()}\\n")
"""
WORKERS = ("worker:worker-00", "worker:worker-01", "worker-long:worker-long-00")
QUICK, SLOW = 200, 40


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with our supervisor files, a virtualenv, the application and one more task."""
    with servers.folder() as path:
        home = Path(path)
        shutil.copytree(ROOT / "supervisor", home / "supervisor")
        (home / "var/log").mkdir(parents=True)
        (home / ".venv").symlink_to(sys.prefix)
        for name in (
            "app",
            "web",
            "relevo",
            "migrations",
            "alembic.ini",
            "celeryconfig.py",
            "beat_schedule.py",
        ):
            (home / name).symlink_to(ROOT / name)
        (home / "tasks").mkdir()
        for module in (ROOT / "tasks").iterdir():
            (home / "tasks" / module.name).symlink_to(module)
        (home / "tasks/marks.py").write_text(MARKS)
        monkeypatch.setenv("RUN_AS", pwd.getpwuid(os.getuid()).pw_name)
        yield home


@pytest.fixture
def programs(home: Path) -> dict[str, Any]:
    """Every program, as supervisor understands it."""
    options = ServerOptions()
    options.realize(["-n", "-c", str(home / "supervisor/supervisord.conf")])
    return {group.name: group.process_configs for group in options.process_group_configs}


def test_supervisor_reads_every_program_file(home, programs):
    assert set(programs) == {path.stem for path in (home / "supervisor").glob("*.conf")} - {
        "supervisord"
    }
    assert [process.name for process in programs["worker"]] == ["worker-00", "worker-01"]


def test_every_program_restarts_keeps_its_logs_small_and_runs_as_the_user_of_the_environment(
    programs,
):
    for process in chain.from_iterable(programs.values()):
        assert process.uid == os.getuid(), process.name
        assert process.autorestart.__name__ == "RestartUnconditionally", process.name
        assert process.killasgroup, process.name
        assert (
            process.stdout_logfile_maxbytes * process.stdout_logfile_backups <= 500 * 1024 * 1024
        ), process.name


def test_a_stop_reaches_the_worker_and_not_the_jobs_it_runs(programs):
    for name in ("worker", "worker-long"):
        for process in programs[name]:
            assert process.stopsignal == signal.SIGTERM
            assert not process.stopasgroup


def test_supervisor_and_the_procfile_start_the_same_programs_on_the_same_queues(programs):
    of_supervisor = [process[0].command for process in programs.values()]
    of_procfile = [line.partition(": ")[2] for line in (ROOT / "Procfile").read_text().splitlines()]
    assert sorted(_queues(of_supervisor)) == sorted(_queues(of_procfile))
    assert sorted(_verbs(of_supervisor)) == sorted(_verbs(of_procfile))


def test_all_groups_under_load_are_killed_restarted_and_stopped_and_nothing_is_lost_or_run_twice(
    home, monkeypatch
):
    journal, url = Journal(home / "var/journal"), f"sqlite:///{home}/var/relevo.db"
    change(home / "supervisor/api.conf", "--port 8000", f"--port {servers.free_port()}")
    for name in ("worker", "worker-long"):  # beside other tests, who is nice waits for minutes
        change(home / f"supervisor/{name}.conf", "nice -n 10 ", "")
    for name, value in {
        "DATABASE_URL": url,
        "RELEVO_VAR_DIR": str(home / "var"),
        "PYTHONPATH": str(home),
        "FLOWER_PORT": str(servers.free_port()),
        "QUEUE_RETRY_AFTER": "5",
    }.items():
        monkeypatch.setenv(name, value)
    first = dispatch(home, journal, 0)
    with supervisord(home) as supervisor:
        pids = {name: _ready(home, supervisor, name) for name in WORKERS}
        for name, sign in {
            "beat": "beat: Starting",
            "flower": "Visit me",
            "api": "Uvicorn running",
        }.items():
            eventually(
                lambda name=name, sign=sign: sign in _log(home, name),
                lambda name=name: _log(home, name),
            )

        killed = pids["worker:worker-00"]
        eventually(lambda: killed in journal.workers)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: _pid(supervisor, "worker:worker-00", other_than=killed))
        assert _pid(supervisor, "worker:worker-01") == pids["worker:worker-01"]

        supervisor.stopProcessGroup("worker")  # it waits until they have finished what they ran
        supervisor.startProcessGroup("worker", False)
        eventually(lambda: journal.ended >= first, lambda: _log(home, "worker-00"))
        assert {journal.first_worker(number) for number in journal.twice} <= {killed}

        second = dispatch(home, journal, 10_000)
        eventually(lambda: journal.ended & second, lambda: _log(home, "worker-00"))
        supervisor.stopAllProcesses()
        assert _running_in(home) == [], "a stop leaves nothing running"

    assert journal.started & second == journal.ended & second, "a stop waits for what runs"
    assert not journal.twice & second
    waiting = sum(driver_for(url).sizes(queue).pending for queue in ("default", "long"))
    assert waiting == len(second - journal.ended), "what had not started waits for the next worker"


class Journal:
    """The notes of the jobs: start or end, which job, in which worker."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, fact: str = "") -> list[tuple[int, int]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [tuple(map(int, line.split()[1:])) for line in lines if line.startswith(fact)]

    workers = property(lambda self: {worker for _, worker in self.lines()})
    started = property(lambda self: {number for number, _ in self.lines("start")})
    ended = property(lambda self: {number for number, _ in self.lines("end")})

    @property
    def twice(self) -> set[int]:
        starts = Counter(number for number, _ in self.lines("start"))
        return {number for number, times in starts.items() if times > 1}

    def first_worker(self, number: int) -> int:
        return next(worker for each, worker in self.lines("start") if each == number)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def dispatch(home: Path, journal: Journal, begin: int) -> set[int]:
    """Hand in short jobs and long ones, as a program in the checkout would; their numbers."""
    short, long = range(begin, begin + QUICK), range(begin + QUICK, begin + QUICK + SLOW)
    code = (
        "from tasks.marks import mark\n"
        f"for number in {short!r}: mark.delay({str(journal.path)!r}, number)\n"
        f"for number in {long!r}: mark.on_queue('long').dispatch({str(journal.path)!r}, number)\n"
    )
    ended = run("-c", code, environ=os.environ, folder=home, modules=APPLICATION)
    assert ended.returncode == 0, ended.stderr
    return {*short, *long}


# --- what the story above is told with ------------------------------------------------------------
@contextlib.contextmanager
def supervisord(home: Path) -> Iterator[Any]:
    """A running supervisord; yields its remote control."""
    command = [
        sys.executable,
        "-m",
        "supervisor.supervisord",
        "-n",
        "-c",
        str(home / "supervisor/supervisord.conf"),
    ]
    socket = home / "var/supervisor.sock"
    with (home / "var/log/console.log").open("wb") as console:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
    try:
        eventually(socket.exists)
        server = ServerProxy(
            "http://localhost", transport=SupervisorTransport(None, None, f"unix://{socket}")
        )
        yield server.supervisor
    finally:
        process.terminate()
        process.wait(LONG)


def _running_in(home: Path) -> list[str]:
    """The command lines of the programs that run in the checkout."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if process.cwd() == str(home.resolve()) and ("celery" in line or "uvicorn" in line):
                found.append(line)
    return found


def _ready(home: Path, supervisor: Any, name: str) -> int:
    log = name.partition(":")[2]
    eventually(lambda: " ready." in _log(home, log), lambda: _log(home, log))
    return _pid(supervisor, name)


def _log(home: Path, name: str) -> str:
    path = home / f"var/log/{name}.log"
    return path.read_text() if path.exists() else ""


def _pid(supervisor: Any, name: str, other_than: int = 0) -> int:
    """The process of a program, or 0 if it has none, or only the one we know."""
    pid: int = supervisor.getProcessInfo(name)["pid"]
    return 0 if pid == other_than else pid


def _queues(commands: list[str]) -> list[str]:
    return [found for command in commands for found in re.findall(r"-Q (\S+)", command)]


def _verbs(commands: list[str]) -> list[str]:
    return [found for command in commands for found in re.findall(r"-A tasks (\w+)", command)]
