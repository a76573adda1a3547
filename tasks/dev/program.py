"""One program of the Procfile: a process that is started again whenever it ends, until `stop`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable

#: Seconds before an ended program is started again. Each further failure in a row takes the next.
WAITS = (1, 2, 5, 10, 30)
#: A program that ran for so many seconds has not failed at its start.
STEADY_SECONDS = 60
#: Seconds that a program has to end after SIGTERM.
STOP_SECONDS = 20

Say = Callable[[str, str], None]


class Program:
    """A thread starts the process, reads its output line by line, and starts it again."""

    def __init__(self, name: str, command: str, say: Say, environment: dict[str, str]) -> None:
        self.name, self.starts = name, 0
        self._command, self._say, self._environment = command, say, environment
        self._process: subprocess.Popen[str] | None = None
        self._stopping, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def restart(self) -> None:
        """End the process warmly. The thread starts it again."""
        self._end(signal.SIGTERM)

    def stop(self) -> None:
        """End the program for good: warmly, and after STOP_SECONDS by killing its whole group."""
        self._stopping.set()
        self._end(signal.SIGTERM)
        self._thread.join(STOP_SECONDS)
        self._end(signal.SIGKILL, everybody=True)
        self._thread.join()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run_once()
            has_failed = code and time.monotonic() - began < STEADY_SECONDS
            failures = min(failures + 1, len(WAITS)) if has_failed else 0
            if not self._stopping.is_set():
                wait = WAITS[failures - 1] if failures else 0
                self._say(self.name, f"ended with {code}; started again in {wait} s")
                self._stopping.wait(wait)

    def _run_once(self) -> int:
        with self._lock:
            if self._stopping.is_set():
                return 0
            # Its own group: a Ctrl-C in the terminal must not hit pool processes in their jobs.
            self._process = subprocess.Popen(  # noqa: S602  a Procfile has shell commands
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
