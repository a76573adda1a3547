"""A project that knows nothing of Relevo but `create_app`: Celery's tasks, without our options.

Real workers run it (`celery -A tests.support.apps.plain worker`) and the test imports it, both with
the same settings in the environment. Tasks note in a journal, a file, what they do besides
returning a value.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery.exceptions import SoftTimeLimitExceeded
from kombu import Queue

from relevo.app import create_app

QUEUES = ("default", "critical", "high", "low", "idle", "once", "threads", "solo", "gevent")

app = create_app(
    "plain",
    task_queues=[Queue(name) for name in QUEUES],
    task_create_missing_queues=True,
    worker_pool_restarts=True,
    result_chord_retry_interval=0.1,
    beat_schedule={
        "tick": {"task": "note", "schedule": 0.2, "args": ["tick"], "options": {"queue": "default"}}
    },
    beat_max_loop_interval=0.2,
)


def journal() -> Path:
    return Path(os.environ["RELEVO_VAR_DIR"], "journal")


@app.task(name="note", shared=False)
def note(*words):
    """Append one line; O_APPEND keeps the lines of several processes whole."""
    with journal().open("a") as lines:
        lines.write(" ".join(map(str, words)) + "\n")


@app.task(name="add", shared=False)
def add(x, y):
    return x + y


@app.task(name="total", shared=False)
def total(numbers):
    return sum(numbers)


@app.task(name="fail", shared=False)
def fail(message="no"):
    raise ValueError(message)


@app.task(name="pid", shared=False)
def pid():
    return os.getpid()


@app.task(name="wait", shared=False, bind=True)
def wait(self):
    """Note the start, and run until the test makes the file."""
    note("started", self.request.id)
    while not journal().with_name(f"go-{self.request.id}").exists():
        time.sleep(0.01)
    note("ended", self.request.id)
    return "waited"


@app.task(name="retried", shared=False, bind=True, max_retries=3)
def retried(self, failures):
    if self.request.retries < failures:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task(
    name="autoretried", shared=False, bind=True, autoretry_for=(ValueError,), default_retry_delay=0
)
def autoretried(self, failures):
    if self.request.retries < failures:
        raise ValueError(failures)
    return self.request.retries


@app.task(name="silent", shared=False, ignore_result=True)
def silent(word):
    note(word)
    return word


@app.task(name="early", shared=False, acks_late=False)
def early(word):
    note(word)
    return word


@app.task(name="errback", shared=False)
def errback(failed_id):
    note("errback", failed_id)


@app.task(name="slow", shared=False, time_limit=0.5)
def slow():
    time.sleep(600)


@app.task(name="slow.soft", shared=False, soft_time_limit=0.5)
def slow_soft():
    try:
        time.sleep(600)
    except SoftTimeLimitExceeded:
        return "was told"
