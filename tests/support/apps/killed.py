"""The app of the worker that tests/worker/test_killed.py starts: its tasks kill their children, and
note what happens.

    RELEVO_TEST_DIR=folder celery -A tests.support.apps.killed worker
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from celery import signals

from relevo import config
from relevo.app import create_app

folder = Path(os.environ["RELEVO_TEST_DIR"])
settings = config.load(
    {
        "QUEUE_CONNECTION": "database",
        "DATABASE_URL": f"sqlite:///{folder}/relevo.db",
        "RELEVO_VAR_DIR": str(folder),
    },
    env_file=None,
)
app = create_app("killed", settings, worker_lost_wait=0.1)


def note(*facts: object) -> None:
    """Append one line to the journal; O_APPEND keeps the lines of several processes whole."""
    with (folder / "journal").open("a") as journal:
        journal.write(json.dumps(facts) + "\n")


def facts() -> list[list[object]]:
    path = folder / "journal"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_down_failure(job, error):
    note("failed", job.task, job.attempt, job.exceptions, type(error).__name__)
    note("hook ran in the main process", os.environ.get("KILLED_TESTS_MAIN") == str(os.getpid()))


@signals.worker_init.connect
def _remember_main_process(**_):
    os.environ["KILLED_TESTS_MAIN"] = str(os.getpid())


@app.task(shared=False, name="sleep", bind=True, tries=2, backoff=0, timeout=1)
def sleep(self):
    note("sleep", self.attempt)
    time.sleep(600)


@app.task(
    shared=False, name="sleep.once", bind=True, tries=3, backoff=0, timeout=1, fail_on_timeout=True
)
def sleep_once(self):
    note("sleep.once", self.attempt)
    time.sleep(600)


@app.task(shared=False, name="sleep.unhooked", bind=True, tries=1, backoff=0, timeout=1)
def sleep_unhooked(self):
    note("sleep.unhooked", self.attempt)
    time.sleep(600)


# Its second attempt has to end in time, also on a machine that stands still now and then.
@app.task(shared=False, name="sleep.first", bind=True, tries=2, backoff=0, timeout=10)
def sleep_first(self):
    note("sleep.first", self.attempt)
    if self.attempt == 1:
        time.sleep(600)
    return "done"


@app.task(shared=False, name="die", bind=True, tries=2, backoff=0)
def die(self):
    note("die", self.attempt)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(shared=False, name="die.first", bind=True, tries=2, backoff=0)
def die_first(self):
    note("die.first", self.attempt)
    if self.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@app.task(shared=False, name="die.forever", bind=True, retry_until=600, backoff=0)
def die_forever(self):
    note("die.forever", self.attempt)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(shared=False, name="exit", bind=True, tries=2, backoff=0)
def exit_(self):
    note("exit", self.attempt)
    sys.exit(3)


@app.task(shared=False, name="hook.dies", bind=True, tries=1, backoff=0)
def hook_dies(self):
    note("hook.dies", self.attempt)
    os.kill(os.getpid(), signal.SIGKILL)


@hook_dies.failed
def _hook_dies_failed(_job, _error):
    note("hook.dies failed")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(shared=False, name="memory", bind=True, tries=2, backoff=0)
def memory(self):
    note("memory", self.attempt)
    raise MemoryError


@app.task(shared=False, name="plain.dies")
def plain_dies():
    note("plain.dies")
    os.kill(os.getpid(), signal.SIGKILL)


for task in (sleep, sleep_once, sleep_first, die, die_first, die_forever, exit_, memory):
    task.failed(write_down_failure)
