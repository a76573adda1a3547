"""The app of the worker that tests/flow/test_options.py starts: every option of a task, and of
Celery's, on a real broker.

    LIVE_BROKER=url LIVE_DIR=folder celery -A tests.support.apps.options worker

Tasks note what they do; how a job ended is in the store's history.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from relevo import config
from relevo.app import create_app
from relevo.database.engine import engine_for
from relevo.execution import models
from relevo.middleware import Skip, Transaction, session

folder = Path(os.environ["LIVE_DIR"])
settings = config.load(
    {
        "QUEUE_CONNECTION": "database",
        "DATABASE_URL": f"sqlite:///{folder}/store.db",
        "QUEUE_RESULTS": "none",
        "RELEVO_VAR_DIR": str(folder),
    },
    env_file=None,
)
app = create_app(
    "live",
    settings,
    broker_url=os.environ["LIVE_BROKER"],
    task_default_queue=os.environ["LIVE_QUEUE"],
    worker_lost_wait=0.1,
    worker_hijack_root_logger=True,
)


class Base(DeclarativeBase):
    """The project's models."""


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    paid: Mapped[int] = mapped_column(default=0)


class Parcel(BaseModel):
    weight: int


models.register(app, Base)


def note(*facts: object) -> None:
    with (folder / "journal").open("a") as journal:
        journal.write(json.dumps(facts) + "\n")


def facts() -> list[list[object]]:
    path = folder / "journal"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def task(name: str, **options: object):
    return app.task(shared=False, name=name, bind=True, **options)


def grab_memory() -> None:
    """Run out of memory: take more than this process may have."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, before[1]))
    try:
        bytearray(1 << 33)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@task("fall", tries=3, backoff=0)
def fall(self, how, at):
    """Kill this process at attempt `at`; raise an error before it, return after it."""
    note("fall", how, at, self.attempt)
    if self.attempt < at:
        raise ValueError(f"attempt {self.attempt}")
    if self.attempt > at:
        return
    match how:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            grab_memory()
        case "timeout":
            time.sleep(600)
    raise AssertionError(how)


@fall.failed
def _fallen(job, error):
    note("fallen", *job.args, job.attempt, type(error).__name__)


@task("tries", tries=3, backoff=[0, 0.1], jitter=0.5, tags=lambda times: [f"times:{times}"])
def tries(self, times):
    if self.attempt <= times:
        raise ValueError(self.attempt)


@task("exceptions", tries=9, max_exceptions=2, backoff=lambda _attempt: 0)
def exceptions(_self):
    raise ValueError


@task("deadline", retry_until=1, backoff=0.3)
def deadline(_self):
    raise ValueError("late")


@task("timeout.once", tries=3, timeout=1, fail_on_timeout=True)
def timeout_once(_self):
    time.sleep(600)


@task("released", tries=1)
def released(self):
    if sum(fact == ["released"] for fact in facts()) < 2:
        note("released")
        self.release(0.05)


@task("failed", tries=9)
def failed(self):
    self.fail("no more")


@task(
    "held.back", tries=1, middleware=[lambda job, go: go() if seen(job.id) else job.release(0.05)]
)
def held_back(_self):
    note("held back and run")


def seen(job_id: str) -> bool:
    known = ["seen", job_id] in facts()
    note("seen", job_id)
    return known


@task("skipped", middleware=[Skip(when=lambda _job: True, reason="not today")])
def skipped(_self):
    note("skipped, and run")


@task("pay", tries=2, backoff=0, middleware=[Transaction()])
def pay(self, order):
    order.paid += 1
    session().flush()
    if self.attempt == 1:
        raise ValueError("undone")


@task("gone", delete_when_missing=True)
def gone(_self, order):
    note("gone, and run", order.id)


@task("once", unique_by=["key"], tries=1)
def once(_self, key, how="return"):
    if how == "fail":
        raise ValueError


@task("starts", unique_by=[], unique_until="start", tries=1)
def starts(self):
    if self.attempt == 1 and ["starts"] not in facts():
        note("starts")
        # Later, or one might have started before the next is dispatched.
        note("again", *(self.apply_async(countdown=600).is_duplicate for _ in range(2)))


@task("patient")
def patient(self):
    """Run as long as the worker does."""
    note("patient")
    while not self.should_stop:
        time.sleep(0.01)
    note("asked to stop")
    self.release()


# --- Celery's own ---------------------------------------------------------------------------------
@task(
    "autoretry",
    autoretry_for=(ValueError,),
    max_retries=2,
    retry_backoff=False,
    default_retry_delay=0,
)
def autoretry(self):
    note("autoretry", self.request.retries)
    raise ValueError


@task(
    "retry.backoff", autoretry_for=(ValueError,), max_retries=1, retry_backoff=1, retry_jitter=False
)
def retry_backoff(self):
    note("retry.backoff", self.request.retries, time.time())
    raise ValueError


@task("time.limit", time_limit=1)
def time_limit(_self):
    time.sleep(600)


@task("soft.limit", soft_time_limit=1)
def soft_limit(_self):
    time.sleep(600)


@task("rate.limit", rate_limit="600/m")
def rate_limit(_self):
    note("rate.limit", time.time())


@task("expires")
def expires(_self):
    note("expires, and run")


@app.task(shared=False, name="pydantic", pydantic=True)
def pydantic(parcel: Parcel):
    note("pydantic", parcel.weight)


@task("plain")
def plain(_self):
    note("plain")


def paid() -> list[int]:
    with engine_for(settings.database_url).begin() as connection:
        return list(connection.execute(text("SELECT paid FROM orders")).scalars())
