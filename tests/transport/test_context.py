"""The context of a process: made when a worker starts, ended once, and not inherited by a fork."""

from __future__ import annotations

import os

import pytest

from relevo.drivers.contract import NewJob, State
from relevo.drivers.memory import MemoryDriver
from relevo.transport import context
from relevo.transport.context import WorkerContext
from relevo.transport.waker import Waker
from relevo.transport.work_limits import WorkLimits


@pytest.fixture(autouse=True)
def before(monkeypatch):
    """The default context of a process that has run no worker."""
    before = WorkerContext()
    monkeypatch.setattr(context, "_current", before)
    return before


def test_a_worker_gets_a_context_with_what_was_set_before_its_start(before):
    before.clear_queue = lambda _driver, _queue: 3
    before.work_limits = WorkLimits(most=7)
    context.start_worker()
    worker = context.current()
    assert worker is not before
    assert worker.is_worker
    assert (worker.work_limits.most, worker.clear_queue(None, "q")) == (7, 3)


def test_a_broker_has_one_lease_keeper_in_a_process(before):
    driver, other = MemoryDriver(), MemoryDriver()
    keeper = before.keeper_for(driver, 30)
    assert before.keeper_for(driver, 30) is keeper
    assert before.keeper_for(other, 30) is not keeper


def test_the_end_of_a_worker_does_what_is_to_be_done_once_while_its_leases_are_held():
    context.start_worker()
    worker, driver, held = context.current(), MemoryDriver(), []
    driver.put([NewJob(queue="default", payload="{}", id="a")])
    worker.keeper_for(driver, 30).adopt(driver.reserve(["default"], 1, 30, "me"))
    worker.at_end.append(lambda: held.append(driver.sizes("default").reserved))
    context.end_worker()
    context.end_worker()
    assert held == [1]
    assert not worker.is_worker
    assert [job.id for job in driver.peek("default", State.PENDING)] == ["a"]


def test_a_worker_that_starts_after_another_one_ends_its_recording():
    context.start_worker()
    ended = []
    context.current().at_end.append(lambda: ended.append("recording"))
    context.start_worker()
    assert ended == ["recording"]


def test_a_stop_wakes_every_loop_of_the_process():
    waker = Waker()
    context.current().add_waker(waker)
    context.wake_worker()
    assert waker.wait(0) == (True, False)


def test_a_forked_child_has_a_context_of_its_own_that_shares_the_stop_byte():
    context.start_worker()
    worker = context.current()
    worker.pool = object()
    pid = os.fork()
    if not pid:
        child = context.current()
        is_own = child is not worker and not child.is_worker and child.pool is None
        child.stop_byte[0] = 2 if is_own else 1
        os._exit(0)
    os.waitpid(pid, 0)
    assert worker.stop_byte[0] == 2
    assert context.current() is worker
