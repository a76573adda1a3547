"""The pool without a worker: children that are killed at the worst moment."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from billiard.exceptions import WorkerLostError

from relevo.worker.pool import prefork
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


class Dying(prefork.Worker):
    """A child that is killed when it has taken a job from the pipe and not yet said so."""

    def _refusing(self, *args: Any) -> Any:
        wait = super()._refusing(*args)

        def die() -> Any:
            request = wait()
            if request:
                os.kill(os.getpid(), signal.SIGKILL)
            return request

        return die


class DyingPool(prefork.Pool):
    Worker = Dying


@pytest.fixture
def pool() -> Iterator[prefork.Pool]:
    made = DyingPool(1, lost_worker_timeout=0.1)
    yield made
    made.terminate()
    made.join()


def test_a_job_whose_child_died_before_it_reported_the_start_is_known_to_be_lost(
    pool: prefork.Pool,
):
    """Otherwise it would be held, and its lease renewed, for as long as the worker lives."""
    job = pool.apply_async(abs, (-1,))
    job.wait(LONG)
    assert job.ready()
    assert job._value.type is WorkerLostError


@pytest.fixture
def deaf() -> Iterator[tuple[prefork.Pool, threading.Event]]:
    """A pool that reads nothing from its children until the event is set."""
    made, hears = prefork.Pool(1, lost_worker_timeout=0.1), threading.Event()
    made.apply_async(abs, (-1,), callback=lambda _: hears.wait(LONG))
    yield made, hears
    hears.set()
    made.terminate()
    made.join()


def test_a_killed_childs_messages_are_read_before_its_jobs_count_as_lost(
    deaf: tuple[prefork.Pool, threading.Event], monkeypatch: pytest.MonkeyPatch
):
    pool, hears = deaf
    given_up, give_up = [], pool.mark_as_worker_lost
    monkeypatch.setattr(
        pool, "mark_as_worker_lost", lambda job, code: given_up.append(job) or give_up(job, code)
    )
    [child] = pool._pool
    ended, lost = pool.apply_async(os.getpid), pool.apply_async(signal.pause)
    eventually(lambda: pool.shared[1] == 1 + lost._job)  # so the word on the first is in the pipe
    os.kill(child.pid, signal.SIGKILL)
    eventually(lambda: len(given_up) >= 2)
    assert not any(job.ready() for job in (ended, lost))
    hears.set()
    assert ended.get(LONG) == child.pid
    lost.wait(LONG)
    assert lost._value.type is WorkerLostError


def test_a_machine_that_stands_still_loses_no_message_of_a_child(
    deaf: tuple[prefork.Pool, threading.Event], monkeypatch: pytest.MonkeyPatch
):
    pool, hears = deaf
    given_back: list[int] = []
    monkeypatch.setattr(pool, "_give_back", given_back.append)
    ended, last = pool.apply_async(abs, (-2,)), pool.apply_async(signal.pause)
    eventually(lambda: pool.shared[1] == 1 + last._job)
    pool.recall()
    jump = time.monotonic() + 1000
    monkeypatch.setattr(prefork, "time", SimpleNamespace(monotonic=lambda: jump))
    pool._join_exited_workers()
    assert given_back == []
    monkeypatch.undo()
    hears.set()
    assert ended.get(LONG) == 2
