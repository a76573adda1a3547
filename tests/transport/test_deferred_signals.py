"""Signal handlers run while the main thread waits, not in the middle of its work."""

import os
import signal
import threading

import pytest

from relevo.transport import deferred_signals
from tests.support.waits import LONG


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(deferred_signals, "_begun", False)
    monkeypatch.setattr(deferred_signals, "_deferred", [])


@pytest.fixture
def done():
    return []


def test_before_the_loop_has_started_a_signal_is_handled_at_once(done):
    deferred_signals.defer(lambda: done.append("stop"))
    assert done == ["stop"]


def test_while_the_main_thread_waits_a_signal_is_handled_at_once(done):
    with deferred_signals.allow():
        deferred_signals.defer(lambda: done.append("stop"))
        assert done == ["stop"]


def test_anywhere_else_a_signal_is_handled_once_when_the_main_thread_waits_next(done):
    with deferred_signals.allow():
        pass
    for number in range(2):
        deferred_signals.defer(lambda number=number: done.append(number))
    assert done == []
    with deferred_signals.allow():
        assert done == [0]
    with deferred_signals.allow():
        assert done == [0]


def test_the_handler_of_a_signal_may_wait_itself(done):
    with deferred_signals.allow():
        pass

    def stop():
        with deferred_signals.allow():
            done.append("stop")

    deferred_signals.defer(stop)
    with deferred_signals.allow():
        assert done == ["stop"]


def test_a_wait_of_another_thread_is_not_one_of_the_main_thread(done):
    with deferred_signals.allow():
        pass
    deferred_signals.defer(lambda: done.append("stop"))

    def other():
        with deferred_signals.allow():
            done.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert done == ["other"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_signal_waits_for_the_same_end_as_what_it_has_interrupted(done, elsewhere):
    """Also a signal that doesn't interrupt the wait: another thread got it, or it came
    just before.
    """
    made, served = threading.Event(), threading.Event()

    def action():
        assert made.wait(LONG)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert served.wait(LONG)
        done.append("ended")

    def serve(*_):
        served.set()
        task.wait()
        done.append("signal")

    def late(*_):
        raise TimeoutError("who was interrupted waits on")

    before = signal.signal(signal.SIGUSR1, serve), signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LONG)
    try:
        with deferred_signals.allow():
            task = deferred_signals.InterruptibleTask(action)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1} if elsewhere else ())
            made.set()
            task.wait()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGALRM, before[1])
    assert done == ["ended", "signal"]


def test_an_error_of_another_thread_is_raised_in_the_waiting_one():
    def action():
        raise OSError("gone")

    task = deferred_signals.InterruptibleTask(action)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            task.wait()
