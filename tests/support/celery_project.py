"""A Celery project in a folder of its own: its app in this process, its commands as real processes.

>>> with project(module, url, folder) as shop:
...     with shop.worker("main", "-Q", "default"):
...         shop.run("inspect", "ping")
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import current_app
from celery.bin.celery import celery as celery_command
from click.testing import CliRunner

from relevo import drivers
from relevo.drivers.contract import Driver
from tests.support.programs import FLOWER, Process, run, start
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@dataclass
class Project:
    """One broker, one folder, and the app of `module` on both."""

    module: str
    folder: Path
    environment: dict[str, str]
    loaded: ModuleType

    @property
    def app(self) -> Any:
        return self.loaded.app

    @property
    def tasks(self) -> Any:
        return self.app.tasks

    @property
    def driver(self) -> Driver:
        return drivers.driver_for(self.app.conf.broker_url)

    # --- processes --------------------------------------------------------------------------------
    def command(self, *arguments: str) -> list[str]:
        return ["-m", "celery", "-A", self.module, *arguments]

    def start(self, *arguments: str, name: str, **environment: str) -> Process:
        """Start a celery command that goes on. Its output goes to `log(name)`."""
        with self.folder.joinpath(f"{name}.log").open("wb") as output:
            environ = {**os.environ, **self.environment, **environment}
            modules = FLOWER if arguments[0] == "flower" else ()
            return start(*self.command(*arguments), environ=environ, output=output, modules=modules)

    def log(self, name: str) -> str:
        return self.folder.joinpath(f"{name}.log").read_text(errors="replace")

    def start_worker(self, name: str, *arguments: str) -> Process:
        return self.start("worker", "-n", f"{name}@here", "-l", "INFO", *arguments, name=name)

    def wait_ready(self, name: str, process: Process, sign: str = " ready.") -> None:
        eventually(
            lambda: sign in self.log(name) or process.poll() is not None, lambda: self.log(name)
        )
        assert process.poll() is None, self.log(name)

    @contextlib.contextmanager
    def worker(self, name: str, *arguments: str) -> Iterator[Process]:
        """A worker that is ready. After the block it is stopped warmly, and must end by itself."""
        process = self.start_worker(name, *arguments)
        try:
            self.wait_ready(name, process)
            yield process
        finally:
            stop(process)

    def run(self, *arguments: str) -> str:
        """Run a celery command to its end; returns its output."""
        ended = run(*self.command(*arguments), environ={**os.environ, **self.environment})
        assert (ended.returncode, ended.stderr) == (0, ""), ended
        return ended.stdout

    def celery(self, *arguments: str, ends: int = 0) -> str:
        """The same in this process, which saves the second that a process needs to start."""
        with keeping_current_app():
            patience = ["--timeout", "10"] if arguments[0] in {"inspect", "control"} else []
            given = ["-A", self.loaded.__name__, arguments[0], *patience, *arguments[1:]]
            ended = CliRunner().invoke(celery_command, given)
        assert ended.exit_code == ends, ended.output
        return ended.output

    # --- what happened ----------------------------------------------------------------------------
    def journal(self) -> list[str]:
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def wait_noted(self, line: str, times: int = 1) -> None:
        eventually(
            lambda: self.journal().count(line) >= times,
            lambda: f"{line!r} is not in {self.journal()}",
        )

    def let_go(self, result: Any) -> None:
        """Let the `wait` job with this result end."""
        self.folder.joinpath(f"go-{result.id}").touch()


@contextlib.contextmanager
def project(module: str, database_url: str, folder: Path, **environment: str) -> Iterator[Project]:
    """The project whose app is in `module`. The app is loaded under a new name, once for each
    project.
    """
    environment = {
        "DATABASE_URL": database_url,
        "RELEVO_VAR_DIR": str(folder),
        "QUEUE_CONNECTION": "database",
        **environment,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with keeping_current_app():
            loaded = load(module, f"{module}_in_{folder.name}")
    if manager := getattr(loaded.app.backend, "session_manager", None):
        # as in a pool's process: one engine for all steps, where Celery makes one for each
        manager.forked = True
    yield Project(module, folder, environment, loaded)
    loaded.app.close()


def load(module: str, name: str) -> ModuleType:
    """The module of an app; it may be loaded again, for another broker."""
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    spec = importlib.util.spec_from_file_location(name, found.origin)
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    loaded.app.finalize()
    return loaded


@contextlib.contextmanager
def keeping_current_app() -> Iterator[None]:
    """Celery makes the newest app the current one; give the earlier one back afterwards."""
    before = current_app._get_current_object()
    try:
        yield
    finally:
        before.set_current()


def stop(*processes: Process) -> None:
    """Stop them warmly, side by side. A process that doesn't end is killed and fails the test."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + LONG
    left = [process for process in processes if not _ended(process, deadline)]
    for process in left:
        process.kill()
    if left:
        pytest.fail(f"did not end within {LONG:.0f} s: {[process.args for process in left]}")


def _ended(process: Process, deadline: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, deadline - time.monotonic()))
    return process.poll() is not None
