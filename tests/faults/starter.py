"""A process that starts workers quickly: it has imported all that a worker imports, and forks.

A worker costs 1.5 s of CPU to start, nearly all of it imports, and these tests start dozens. One JSON object a line on
stdin asks for a process, one line on stdout is its pid; its exit code goes to the file `exit` when it has ended. The
worker is `celery …` as from a shell from there on: a process of its own session, its app imported after the fork.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

PRELOADED = (
    "celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.worker.worker", "celery.worker.consumer",
    "celery.worker.control", "celery.worker.strategy", "celery.worker.loops", "celery.concurrency.solo",
    "celery.concurrency.thread", "celery.worker.components", "celery.worker.autoscale", "celery.app.control",
    "celery.app.events", "celery.fixups.django", "relevo.app", "relevo.job.task", "relevo.job.request",
    "relevo.drivers.transport", "relevo.drivers.database.driver", "relevo.drivers.redis.driver", "tests.faults",
    "relevo.schedule.beat", "celery.bin.beat", "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.psycopg", "psycopg",
)  # fmt: skip

# Commands of ours that a test may start.
COMMANDS = ("work",)

PR_SET_PDEATHSIG = 1

#: The workers that run.
alive: set[int] = set()


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    for name in COMMANDS:  # whatever the version is that is installed
        command = getattr(importlib.import_module(f"relevo.cli.{name}"), name)
        importlib.import_module("celery.bin.celery").celery.add_command(command)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(asked)
        alive.add(pid)
        threading.Thread(target=report, args=(pid, Path(asked["exit"])), daemon=True).start()
        print(pid, flush=True)  # noqa: T201  the answer
    end()


def end() -> None:
    """The test run is over, or was killed: leave no worker behind."""
    for pid in list(alive):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def become(asked: dict[str, Any]) -> None:
    """Be the process that was asked for, and never return."""
    os.setsid()
    if sys.platform == "linux":  # the end that can't be told: the whole run is killed, this starter with it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(source, descriptor)
    os.environ.update(asked["environ"])
    sys.argv = ["celery", *asked["arguments"]]
    from celery.__main__ import main as celery  # noqa: PLC0415  it looks at sys.argv

    try:
        sys.exit(celery())
    except SystemExit as end:
        leave(end.code)
    except BaseException:  # noqa: BLE001  what the interpreter would do
        sys.excepthook(*sys.exc_info())
        leave(1)


def leave(code: Any) -> None:
    """End as the interpreter would, with the handlers of `atexit`, without going on in `main`."""
    import atexit  # noqa: PLC0415

    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def report(pid: int, path: Path) -> None:
    _, status = os.waitpid(pid, 0)
    alive.discard(pid)
    part = path.with_suffix(".part")
    part.write_text(str(os.waitstatus_to_exitcode(status)))
    part.rename(path)


class Starter:
    """The other end: start processes by it. When it is closed, or we are killed, it ends, and what it started, too."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, arguments: list[str], environ: dict[str, str], log: Path, ended: Path) -> int:
        """Start `celery *arguments`; returns its pid."""
        asked = {"arguments": arguments, "environ": environ, "log": str(log), "exit": str(ended)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


if __name__ == "__main__":
    main()
