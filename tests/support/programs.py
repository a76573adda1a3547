"""Starts Python programs quickly, by a process that has imported what they import
(`tests/support/fork_server.py`).

>>> worker = start("-m", "celery", "-A", "shop", "worker", environ=environ, output=log)
>>> worker.terminate()
>>> worker.wait(LONG)
0

A started program is used like a `Popen`. Tests of the start of a program, or of what it does to a
terminal, use `subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.fork_server import LENGTH, PRELOADED
from tests.support.waits import LONG

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]

# Starts processes for a test's functions, each as fresh as a spawned one.
FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload([*PRELOADED, "pytest"])

# The modules that programs of the application import, beside those of a worker.
APPLICATION = (
    "alembic.command",
    "argon2",
    "email_validator",
    "fastapi.applications",
    "fpdf",
    "httpx",
    "jinja2",
    "PIL.Image",
    "rich.console",
    "rich.progress",
    "rich.table",
    "standardwebhooks",
    "uvicorn",
    "uvicorn.main",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.lifespan.on",
    "xlsxwriter",
    "app.models",
)
FLOWER = ("flower.command", "flower.app", "flower.urls")


class Process:
    """A program that was started, with those methods of a `Popen` that the tests use."""

    def __init__(self, arguments: tuple[str, ...], answers: int) -> None:
        self.args = [sys.executable, *arguments]
        self.returncode: int | None = None
        self._answers = answers
        self.pid = self._answer()

    def _answer(self) -> int:
        """The next number from the fork server. When there is none, the server was killed, and so
        was the program.
        """
        said = b""
        while not said.endswith(b"\n"):
            byte = os.read(self._answers, 1)
            if not byte:
                return -signal.SIGKILL
            said += byte
        return int(said)

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._answers, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self.returncode = self._answer()
            os.close(self._answers)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    *arguments: str,
    environ: Mapping[str, str],
    output: Path | Any,
    errors: Any = None,
    folder: Path = ROOT,
    modules: tuple[str, ...] = (),
) -> Process:
    """Start `python *arguments` in `folder`, as the leader of a session, with this environment.

    `output` is an open file; `errors` go there too unless they have one of their own. `modules` are
    imported in advance, once for all programs that need them. They must not read the environment.
    """
    asked = json.dumps(
        {
            "arguments": arguments,
            "environ": dict(environ),
            "folder": str(folder),
            "modules": modules,
        }
    )
    answers, answering = os.pipe()
    try:
        descriptors = [output.fileno(), (errors or output).fileno(), answering]
        socket.send_fds(_starter(), [len(asked).to_bytes(LENGTH)], descriptors)
        _starter().sendall(asked.encode())
    finally:
        os.close(answering)
    return Process(arguments, answers)


def run(
    *arguments: str,
    environ: Mapping[str, str],
    folder: Path = ROOT,
    modules: tuple[str, ...] = (),
    within: float = LONG,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; returns its output."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = start(
            *arguments,
            environ=environ,
            output=output,
            errors=errors,
            folder=folder,
            modules=modules,
        )
        try:
            process.wait(within)
        finally:
            process.kill()
        said = []
        for file in (output, errors):
            file.seek(0)
            said.append(file.read().decode())
    return subprocess.CompletedProcess(process.args, process.wait(), *said)


@functools.cache
def _starter() -> socket.socket:
    """A connection to the fork server of this test run. When it closes, the server ends, and all
    that it has started.
    """
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", str(its.fileno())],
            cwd=ROOT,
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours
