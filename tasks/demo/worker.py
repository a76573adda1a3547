"""The demo's worker: an ordinary `celery -A tasks worker -Q …` in its own process group.

A Ctrl-C in the terminal goes to every process of the foreground group. In that group it would hit
the worker's children in the middle of a picture, and the worker could not stop warmly. With a group
of its own, remaining children can also be ended by the group's id.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tasks.demo.interrupt import Interrupt

ROOT = Path(__file__).parents[2]
QUEUES = "high,transactional,default,webhooks,imports,long"
STOP_SECONDS = 30.0  # for the running pictures, at a warm stop
LOG_LINES = 15


class Worker:
    """A worker process within a `with` block."""

    def __init__(self, log: Path, interrupt: Interrupt) -> None:
        self.log = log
        self._interrupt = interrupt
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log_began = log.stat().st_size if log.exists() else 0

    def __enter__(self) -> Self:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with self.log.open("ab") as log:  # appended to: another demo may be writing it too
            self._process = subprocess.Popen(  # noqa: S603  fixed arguments
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path, "APP_PRIVATE_WEBHOOKS": "yes"},
            )
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop the worker warmly; at once after STOP_SECONDS or a second Ctrl-C. No process is
        left.
        """
        if not self.has_ended():
            self._process.send_signal(signal.SIGTERM)
        patient_until = time.monotonic() + STOP_SECONDS
        while (
            not self.has_ended()
            and time.monotonic() < patient_until
            and self._interrupt.requests <= 1
        ):
            time.sleep(0.05)
        self._end_group()
        self._process.wait()

    def has_ended(self) -> bool:
        """Whether the process has ended. It stays a zombie until `__exit__`, so that no other
        process gets its id, which is the group's id, too.
        """
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def log_tail(self) -> str:
        """The last lines of its log."""
        with self.log.open("rb") as log:
            log.seek(self._log_began)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-LOG_LINES:])

    def _command(self) -> list[str]:
        # A unique name: another demo or worker on this host must not have the same.
        return [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tasks",
            "worker",
            "-Q",
            QUEUES,
            "-c",
            "2",
            "-n",
            f"demo-{os.getpid()}@%h",
            "--loglevel",
            "INFO",
        ]

    def _end_group(self) -> None:
        # macOS refuses when only the zombie is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


class NoWorker:
    """Stands for a worker on the `sync` connection, where the dispatch itself runs the job."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def has_ended(self) -> bool:
        return False
