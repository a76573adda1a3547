"""A program started by the fork server behaves like one started by a fresh Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support.fork_server import answer_signals
from tests.support.programs import ROOT, run, start
from tests.support.waits import LONG, eventually

ABOUT = """
import json, os, signal, sys, threading
numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP]
print(json.dumps([
    sys.argv, sys.orig_argv, sys.path, os.getcwd(), sorted(os.environ.items()),
    sys.dont_write_bytecode, __name__, [str(signal.getsignal(number)) for number in numbers],
    signal.set_wakeup_fd(-1), threading.active_count(),
    os.getpid() == os.getsid(0) == os.getpgrp(), sorted(os.listdir("/dev/fd")), os.umask(0),
    sys.stdin.read(),
]))
"""
ENDS = {
    "by itself": "print('out'); import sys; print('err', file=sys.stderr)",
    "with a code": "raise SystemExit(3)",
    "with words": "raise SystemExit('bye')",
    "by Ctrl-C": "import os, signal; os.kill(os.getpid(), signal.SIGINT); signal.pause()",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "told to": "import os, signal; os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
    "with threads": "import threading; threading.Timer(0.05, lambda: print('late')).start()",
    "with handlers": "import atexit; atexit.register(print, 'last'); print('first')",
}


def fresh(*arguments, environ, folder):
    return subprocess.run(
        [sys.executable, *arguments],
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        text=True,
        capture_output=True,
        start_new_session=True,
        check=False,
        preexec_fn=answer_signals,
    )


@pytest.fixture
def environ():
    return {**os.environ, "PYTHONPATH": str(ROOT), "MARK": "größer"}


def test_a_forked_program_has_only_the_given_arguments_and_environment(environ, tmp_path):
    asked = {"environ": {**environ, "PYTHONDONTWRITEBYTECODE": "1"}, "folder": tmp_path}
    assert (
        run("-c", ABOUT, "a", "b", **asked).stdout == fresh("-c", ABOUT, "a", "b", **asked).stdout
    )


def test_a_module_is_run_from_the_folder(environ, tmp_path):
    (tmp_path / "about.py").write_text(ABOUT)
    said, expected = (
        ask("-m", "about", "a", environ=environ, folder=tmp_path) for ask in (run, fresh)
    )
    assert (said.stdout, said.stderr) == (expected.stdout, expected.stderr)


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS)
def test_a_forked_program_ends_like_any_other(environ, tmp_path, code):
    said, expected = (ask("-c", code, environ=environ, folder=tmp_path) for ask in (run, fresh))
    assert (said.returncode, said.stdout) == (expected.returncode, expected.stdout)
    assert said.stderr.splitlines()[-1:] == expected.stderr.splitlines()[-1:]


def test_a_forked_program_is_signalled_and_waited_for_like_a_popen(environ, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        process = start("-c", "import signal; signal.pause()", environ=environ, output=log)
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.terminate()
        assert process.wait(LONG) == process.returncode == process.poll() == -signal.SIGTERM
        process.kill()  # of one that has ended: nothing


def test_many_programs_run_side_by_side_and_each_has_its_own_exit_code(environ, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        code = "import sys; sys.exit(int(sys.argv[1]))"
        started = [
            start("-c", code, str(number), environ=environ, output=log) for number in range(8)
        ]
    assert [process.wait(LONG) for process in started] == list(range(8))


def test_when_the_test_run_is_killed_nothing_is_left(environ, tmp_path):
    """The run here is a process that starts another one, says which, and is killed."""
    script = (
        "import os, sys, signal; from tests.support.programs import start\n"
        "code = 'import signal; signal.pause()'\n"
        "process = start('-c', code, environ=os.environ, output=sys.stderr)\n"
        "print(process.pid, flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE) as killed:
        started = int(killed.stdout.readline())
        killed.kill()
    eventually(lambda: not alive(started))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
