"""make dev: programs are restarted when they end, and stopped when it is."""

from __future__ import annotations

import os
import signal
import threading

import psutil
import pytest

from tasks.dev import program
from tasks.dev.__main__ import ROOT, lines
from tasks.dev.program import Program
from tests.support import programs
from tests.support.programs import APPLICATION, start
from tests.support.waits import LONG, eventually


@pytest.fixture
def said():
    return []


@pytest.fixture
def run(said):
    started = []

    def begin(command):
        one = Program(
            "one", command, lambda name, line: said.append((name, line)), dict(os.environ)
        )
        started.append(one)
        one.start()
        return one

    yield begin
    for one in started:
        one.stop()


def test_the_programs_are_those_of_the_procfile():
    assert set(lines(ROOT / "Procfile")) == {"worker", "long", "beat", "dashboard", "api"}


def test_a_failing_program_is_restarted_after_longer_and_longer_waits(run, said, monkeypatch):
    monkeypatch.setattr(program, "WAITS", (0.01, 0.02))
    one = run("sh -c 'echo hello; exit 3'")
    eventually(lambda: one.starts >= 4)
    one.stop()
    assert said[:2] == [("one", "hello"), ("one", "ended with 3; started again in 0.01 s")]
    assert ("one", "ended with 3; started again in 0.02 s") in said


def test_a_restart_stops_a_program_warmly_and_starts_it_at_once(run, said):
    one = run("sh -c 'trap \"echo bye; exit 0\" TERM; echo ready; while :; do sleep 0.05; done'")
    eventually(lambda: ("one", "ready") in said)
    one.restart()
    eventually(lambda: said.count(("one", "ready")) == 2)
    assert ("one", "bye") in said


def test_a_stop_leaves_nothing_of_the_group(run, said, monkeypatch):
    monkeypatch.setattr(program, "STOP_SECONDS", 0.2)
    one = run("sh -c 'trap \"\" TERM; sleep 1000 & echo $!; wait; wait'")
    eventually(lambda: said)
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    stopping.join(LONG)
    assert not stopping.is_alive()
    child = int(said[0][1])
    eventually(
        lambda: (
            not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
        )
    )


def test_the_command_runs_a_program_starts_it_again_when_it_is_killed_and_ends_with_it(tmp_path):
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "PORT": "0",
        "RELEVO_VAR_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path}/dev.db",
        "PYTHONPATH": str(ROOT),
    }
    with log.open("wb") as output:
        dev = start(
            "-m", "tasks.dev", "api", environ=environment, output=output, modules=APPLICATION
        )
    try:
        eventually(lambda: "running on" in log.read_text(), log.read_text)
        (api,) = psutil.Process(dev.pid).children()
        api.kill()
        eventually(lambda: log.read_text().count("running on") == 2, log.read_text)
        assert "ended with -9; started again in 1 s" in log.read_text()
    finally:
        dev.send_signal(signal.SIGTERM)
        ended = dev.wait(LONG)
    assert ended == 0, log.read_text()
    assert "Finished server process" in log.read_text()


def test_a_name_that_is_not_there_is_a_usage_error():
    ran = programs.run("-m", "tasks.dev", "wroker", environ=os.environ, modules=APPLICATION)
    assert (ran.returncode, "got wroker" in ran.stderr) == (2, True)
