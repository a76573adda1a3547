"""supervisor/*.conf, read by supervisor itself, then started, killed, restarted and stopped for real."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xmlrpc.client import ServerProxy

import psutil
import pytest
from supervisor.options import ServerOptions
from supervisor.xmlrpc import SupervisorTransport

from tests import servers
from tests.waiting import WITHIN, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

# Stands in for tasks/: the same command line finds it, because supervisor starts the workers in its folder.
TASKS = """
import time
from pathlib import Path

from relevo.app import create_app

app = create_app("tasks")

@app.task(name="mark", queue="default", tries=3)
def mark(path, seconds):
    Path(path).with_suffix(".started").touch()
    time.sleep(seconds)
    Path(path).touch()
"""


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout in small: our supervisor files, a virtualenv, and one task."""
    with servers.folder() as path:
        home = Path(path)
        shutil.copytree(ROOT / "supervisor", home / "supervisor")
        (home / "var/log").mkdir(parents=True)
        (home / ".venv").symlink_to(sys.prefix)
        (home / "tasks.py").write_text(TASKS)
        monkeypatch.setenv("RUN_AS", pwd.getpwuid(os.getuid()).pw_name)
        yield home


@pytest.fixture
def programs(home: Path) -> dict[str, Any]:
    """Every program, as supervisor understands it."""
    options = ServerOptions()
    options.realize(["-n", "-c", str(home / "supervisor/supervisord.conf")])
    return {group.name: group.process_configs for group in options.process_group_configs}


def test_supervisor_reads_every_program_file(home, programs):
    assert set(programs) == {path.stem for path in (home / "supervisor").glob("*.conf")} - {"supervisord"}
    assert [process.name for process in programs["worker"]] == ["worker-00", "worker-01"]


def test_every_program_restarts_keeps_its_logs_small_and_runs_as_the_user_of_the_environment(programs):
    for process in chain.from_iterable(programs.values()):
        assert process.uid == os.getuid(), process.name
        assert process.autorestart.__name__ == "RestartUnconditionally", process.name
        assert process.killasgroup, process.name
        assert process.stdout_logfile_maxbytes * process.stdout_logfile_backups <= 500 * 1024 * 1024, process.name


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


def test_a_killed_worker_is_started_again_and_a_stop_lets_the_running_job_finish(home, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{home}/var/relevo.db")
    for unwanted in ("worker-long", "beat", "flower", "api"):
        (home / f"supervisor/{unwanted}.conf").unlink()
    with supervisord(home) as supervisor:
        first = {name: _ready(home, supervisor, name) for name in ("worker:worker-00", "worker:worker-01")}

        os.kill(first["worker:worker-00"], signal.SIGKILL)
        again = eventually(lambda: _pid(supervisor, "worker:worker-00", other_than=first["worker:worker-00"]))
        assert again != first["worker:worker-00"]
        assert _pid(supervisor, "worker:worker-01") == first["worker:worker-01"]

        _dispatch(home, home / "var/job", seconds=1)
        eventually((home / "var/job.started").exists)
        supervisor.stopProcessGroup("worker")
        assert (home / "var/job").exists(), "the stop came while the job ran; it should have finished first"
        assert _running_in(home) == [], "a stop leaves nothing running"


# --- what the story above is told with ------------------------------------------------------------------------------
@contextlib.contextmanager
def supervisord(home: Path) -> Iterator[Any]:
    """A running supervisord; yields its remote control."""
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(home / "supervisor/supervisord.conf")]
    socket = home / "var/supervisor.sock"
    with (home / "var/log/console.log").open("wb") as console:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
    try:
        eventually(socket.exists)
        server = ServerProxy("http://localhost", transport=SupervisorTransport(None, None, f"unix://{socket}"))
        yield server.supervisor
    finally:
        process.terminate()
        process.wait(WITHIN)


def _running_in(home: Path) -> list[str]:
    """The command lines of celery processes started in the small checkout."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == str(home.resolve()) and "celery" in " ".join(process.cmdline()):
                found.append(" ".join(process.cmdline()))
    return found


def _dispatch(home: Path, path: Path, seconds: float) -> None:
    code = f"from tasks import mark; mark.delay({str(path)!r}, {seconds})"
    subprocess.run([sys.executable, "-c", code], cwd=home, check=True)


def _ready(home: Path, supervisor: Any, name: str) -> int:
    log = home / f"var/log/{name.partition(':')[2]}.log"
    eventually(lambda: log.exists() and " ready." in log.read_text(), log.read_text)
    return _pid(supervisor, name)


def _pid(supervisor: Any, name: str, other_than: int = 0) -> int:
    """The process of a program, or 0 if it has none, or only the one we know."""
    pid: int = supervisor.getProcessInfo(name)["pid"]
    return 0 if pid == other_than else pid


def _queues(commands: list[str]) -> list[str]:
    return [found for command in commands for found in re.findall(r"-Q (\S+)", command)]


def _verbs(commands: list[str]) -> list[str]:
    return [found for command in commands for found in re.findall(r"-A tasks (\w+)", command)]
