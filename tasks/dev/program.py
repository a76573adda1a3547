"""One line of the Procfile as a process that is started again when it ends, until it is told to
stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

#: Seconds before a program that ended is started again: the longer, the more often it did so
#: lately.
WAITS = (1, 2, 5, 10, 30)
#: A program that ran for so long was all right.
STEADY = 60
#: Seconds that a program has to end after it was asked to.
PATIENCE = 20

Say = Callable[[str, str], None]


class Program:
    """A thread starts it, reads what it says line by line, and starts it again."""

    def __init__(self, name: str, command: str, say: Say, environment: dict[str, str]) -> None:
        self.name, self.starts = name, 0
        self._command, self._say, self._environment = command, say, environment
        self._process: subprocess.Popen[str] | None = None
        self._stopping, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def restart(self) -> None:
        """End it warmly; its thread starts it again."""
        self._end(signal.SIGTERM)

    def stop(self) -> None:
        """End it for good: warmly, and after PATIENCE seconds with its whole group."""
        self._stopping.set()
        self._end(signal.SIGTERM)
        self._thread.join(PATIENCE)
        self._end(signal.SIGKILL, everybody=True)
        self._thread.join()

    def _run(self) -> None:
        again = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._once()
            again = min(again + 1, len(WAITS)) if code and time.monotonic() - began < STEADY else 0
            if not self._stopping.is_set():
                wait = WAITS[again - 1] if again else 0
                self._say(self.name, f"ended with {code}; started again in {wait} s")
                self._stopping.wait(wait)

    def _once(self) -> int:
        with self._lock:
            if self._stopping.is_set():
                return 0
            # A group of its own: Ctrl-C in the terminal is ours to answer; it would hit pool
            # processes in their jobs.
            # - the Procfile's lines are shell commands, as everywhere
            self._process = subprocess.Popen(  # noqa: S602
                f"exec {self._command}",
                shell=True,
                text=True,
                errors="replace",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.starts += 1
        for line in self._process.stdout or ():
            self._say(self.name, line.rstrip("\n"))
        return self._process.wait()

    def _end(self, how: signal.Signals, everybody: bool = False) -> None:
        with self._lock, contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process is not None and everybody:
                os.killpg(self._process.pid, how)
            elif self._process is not None and self._process.poll() is None:
                self._process.send_signal(how)
