"""A process that starts programs quickly: it has imported what they import, and forks.
`tests/support/programs.py` is its client.

A worker costs 1.5 s of CPU to start, nearly all of it imports, and the tests start hundreds. A
request is a Python command line (`-m celery -A shop worker`, `-c code`). After the fork the process
is what Python would have made of it: the leader of a session of its own, with its own folder,
environment, arguments and standard streams. The app is imported after the fork.

A request is its length in eight bytes and a JSON object. With it come descriptors: for output, for
errors, and a pipe on which the pid is answered, and the exit code after the end.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

# The modules that a worker, a beat and our commands import.
PRELOADED = (
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.apps.worker",
    "celery.worker.worker",
    "celery.worker.consumer",
    "celery.worker.control",
    "celery.worker.strategy",
    "celery.worker.loops",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.worker.components",
    "celery.worker.autoscale",
    "celery.app.control",
    "celery.app.events",
    "celery.fixups.django",
    "celery.backends.database",
    "celery.backends.redis",
    "relevo.app",
    "relevo.task",
    "relevo.worker.request",
    "relevo.worker.pool.prefork",
    "relevo.worker.bootstep",
    "relevo.transport.transport",
    "relevo.drivers.database.driver",
    "relevo.drivers.redis.driver",
    "relevo.schedule.beat",
    "celery.bin.beat",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
    "psycopg",
    "tests.support.no_fsync",
)

# The commands that tests start.
COMMANDS = ("work",)

PR_SET_PDEATHSIG = 1
LENGTH = 8


def main() -> None:
    """Serve until all clients are gone. Every return from `serve` but the last is in a forked
    process.
    """
    answer_signals()
    load(PRELOADED)
    for name in COMMANDS:  # as the installed version defines them
        command = getattr(importlib.import_module(f"relevo.cli.{name}"), name)
        importlib.import_module("celery.bin.celery").celery.add_command(command)
    gc.collect()
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        program = serve(asked)
    if program is not None:
        finish(program)


def answer_signals() -> None:
    """Answer signals as a program in a terminal does. A shell's `&` and nohup ignore some."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def load(names: list[str] | tuple[str, ...]) -> None:
    for name in names:
        importlib.import_module(name)


def serve(asked: socket.socket) -> Callable[[], None] | None:
    """Fork for each request. In the child it returns the request; in this process None,
    at the end.
    """
    alive: dict[int, int] = {}
    awake, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector, awake, wake:
        selector.register(asked, selectors.EVENT_READ)
        selector.register(awake, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if awake in ready:
                awake.recv(4096)
                report(alive)
            if asked not in ready:
                continue
            length, descriptors, *_ = socket.recv_fds(asked, LENGTH, 3)
            if not length:
                end(alive)
                return None
            request = json.loads(asked.recv(int.from_bytes(length), socket.MSG_WAITALL))
            load(request["modules"])
            gc.freeze()  # a collection in the child would copy every page it looks at
            output, errors, answers = descriptors
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for other in (*alive.values(), answers):
                    os.close(other)
                become(request, output, errors)
                return lambda: run(request["arguments"])
            alive[pid] = answers
            os.write(answers, f"{pid}\n".encode())
            os.close(output)
            os.close(errors)


def report(alive: dict[int, int]) -> None:
    """Tell the clients how their ended programs have ended."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            answers = alive.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os.close(answers)


def end(alive: dict[int, int]) -> None:
    """Leave nothing behind: the test run has ended, or was killed."""
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def become(request: dict[str, Any], output: int, errors: int) -> None:
    """Be the process that was asked for, up to the run of its program."""
    os.setsid()
    if sys.platform == "linux":  # the test run was killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    ours = sys.path[0]
    added = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = os.getcwd() if request["arguments"][0] == "-m" else ""  # noqa: PTH109
    sys.path[:] = [first, *added, *(path for path in sys.path if path not in {*added, ours})]
    sys.orig_argv = [sys.executable, *request["arguments"]]


def run(arguments: list[str]) -> None:
    """Run as `python *arguments` would: `-m module …` or `-c code …`."""
    how, what, *others = arguments
    sys.argv = [how, *others]
    if how == "-m":
        sys.argv[0] = what
        runpy.run_module(what, run_name="__main__", alter_sys=True)
        return
    module = sys.modules["__main__"] = ModuleType("__main__")
    exec(compile(what, "<string>", "exec"), module.__dict__)  # it is what -c asks for


def finish(program: Callable[[], None]) -> None:
    """Run the program and end as the interpreter would, without freeing its memory."""
    code: Any = 0
    interrupted = False
    try:
        program()
    except SystemExit as end:
        code = end.code
    except BaseException as error:  # noqa: BLE001  what the interpreter would do
        sys.excepthook(*sys.exc_info())
        code, interrupted = 1, isinstance(error, KeyboardInterrupt)
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)  # noqa: T201
        code = 1
    threading._shutdown()  # waits for all that aren't daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    main()
