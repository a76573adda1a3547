"""The threads that supervise the pool's children: an error in one would end the whole worker."""

from __future__ import annotations

import os
import signal

import pytest
from billiard import get_context

from relevo.worker.pool.supervisors import TimeoutHandler


@pytest.fixture
def child():
    process = get_context("fork").Process(target=signal.pause)
    process.start()
    yield process
    process._popen.returncode = 0  # the test has ended and reaped it


@pytest.mark.parametrize("sentinel", ["closed", None])
def test_a_late_child_that_another_thread_reaps_just_then_is_no_error(child, monkeypatch, sentinel):
    """Seen once in CI: `ValueError: invalid file descriptor 7`, and the worker was gone."""
    popen, end = child._popen, child.terminate
    descriptor = popen.sentinel

    def terminate():
        end()
        os.waitpid(child.pid, 0)
        os.close(descriptor)
        popen.sentinel = descriptor if sentinel else None

    monkeypatch.setattr(child, "terminate", terminate)
    TimeoutHandler([child], {}, None, None)._trywaitkill(child)
