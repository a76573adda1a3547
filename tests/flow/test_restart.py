"""`celery -A tasks restart` with real workers: new code, no job lost or run twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from relevo import config
from relevo.app import create_app
from relevo.cli.restart import restart
from tests.support.programs import ROOT, Process, start
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = """
import json, os, time
from relevo.app import create_app

VERSION = 1
app = create_app("tasks")

def note(fact, number):
    with open("journal", "a") as journal:
        journal.write(json.dumps([fact, number, VERSION]) + chr(10))

@app.task(name="work", ignore_result=True)
def work(number, gate=None):
    note("start", number)
    while gate and not os.path.exists(gate):
        time.sleep(0.02)
    time.sleep(0.01)
    note("end", number)
"""


class Shop:
    """A project in a folder, its app in this process, and its workers."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.tasks = folder, folder / "tasks.py"
        self.tasks.write_text(TASKS)
        self.settings = {"RELEVO_VAR_DIR": str(folder / "var"), "QUEUE_RESULTS": "none"}
        self.settings |= {"REDIS_URL": url} if url.startswith("redis") else {"DATABASE_URL": url}
        # The name keeps these workers apart from others on the same server.
        self.app = create_app(
            "tasks", config.load(self.settings, None), task_default_queue="restart"
        )

    def dispatch(self, numbers: range, gate: str | None = None) -> None:
        for number in numbers:
            self.app.send_task("work", (number, gate), ignore_result=True)

    def noted(self) -> list[Any]:
        journal = self.folder / "journal"
        return (
            [json.loads(line) for line in journal.read_text().splitlines()]
            if journal.exists()
            else []
        )

    def count(self, fact: str) -> Counter[int]:
        return Counter(number for kind, number, _ in self.noted() if kind == fact)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    @contextlib.contextmanager
    def worker(self, name: str) -> Iterator[Process]:
        options = ["-Q", "restart", "-c", "2", "-n", f"{name}@here", "-l", "INFO"]
        # Of a module that is changed twice in a second, what was compiled first would be taken for
        # the newest.
        environment = {
            **os.environ,
            **self.settings,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            command = ["-m", "celery", "-A", "tasks", "worker", *options]
            process = start(*command, environ=environment, output=log, folder=self.folder)
        try:
            eventually(
                lambda: self.log(name).count(" ready.") or process.poll() is not None,
                lambda: self.log(name),
            )
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(LONG)

    def restart(self, *words: str) -> Any:
        return CliRunner().invoke(restart, list(words), obj=SimpleNamespace(app=self.app))


@pytest.fixture(params=["sqlite", "redis"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    url = (
        f"sqlite:///{tmp_path}/shop.sqlite3"
        if request.param == "sqlite"
        else request.getfixturevalue("redis_url")
    )
    return Shop(tmp_path, url)


def test_workers_under_load_restart_on_new_code_and_lose_or_double_nothing(shop):
    shop.dispatch(range(200))
    with shop.worker("one") as one, shop.worker("two") as two:
        eventually(lambda: len(shop.count("end")) > 10, lambda: shop.log("one"))

        # When the code changes and the workers are restarted in the midst of it
        shop.tasks.write_text(TASKS.replace("VERSION = 1", "VERSION = 2"))
        result = shop.restart("--wait", "90", "--json")

        # I expect the same two processes, on the new code
        assert result.exit_code == 0, result.output
        rows = {row["worker"]: row for row in json.loads(result.stdout)}
        assert {name: (row["pid"], row["state"]) for name, row in rows.items()} == {
            "one@here": (one.pid, "started anew"),
            "two@here": (two.pid, "started anew"),
        }
        shop.dispatch(range(200, 210))
        eventually(lambda: len(shop.count("end")) == 210, lambda: shop.log("one") + shop.log("two"))
        for process in (one, two):
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 0
    assert set(shop.count("start").values()) == {1}
    assert {version for kind, number, version in shop.noted() if number >= 200} == {2}


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_a_stop_of_a_worker_that_is_to_restart_wins(shop):
    gate = shop.folder / "gate"
    shop.dispatch(range(1), str(gate))
    with shop.worker("one") as one:
        eventually(lambda: shop.count("start"), lambda: shop.log("one"))
        result = shop.restart("one@here", "nobody@here")
        assert result.exit_code == 1
        assert "worker nobody@here has not answered" in result.stderr
        assert "finishing" in result.stdout
        one.send_signal(signal.SIGTERM)
        eventually(lambda: "Warm shutdown" in shop.log("one"), lambda: shop.log("one"))
        gate.touch()
        assert one.wait(LONG) == 0
    assert shop.log("one").count(" ready.") == 1
    assert shop.count("end") == {0: 1}


@pytest.mark.parametrize("shop", ["sqlite"], indirect=True)
def test_without_a_worker_restart_says_so(shop):
    result = shop.restart()
    assert result.exit_code == 1
    assert result.stdout == "No worker has answered.\n"
