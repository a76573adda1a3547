"""When the work of a signal is done."""

import threading

import pytest

from relevo.drivers import safepoint


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(safepoint, "_begun", False)
    monkeypatch.setattr(safepoint, "_asked", [])


@pytest.fixture
def done():
    return []


def test_before_the_loop_has_begun_it_is_done_at_once(done):
    safepoint.run(lambda: done.append("stop"))
    assert done == ["stop"]


def test_while_the_main_thread_waits_it_is_done_at_once(done):
    with safepoint.wait():
        safepoint.run(lambda: done.append("stop"))
        assert done == ["stop"]


def test_anywhere_else_it_is_done_when_the_main_thread_comes_to_wait_and_once(done):
    with safepoint.wait():
        pass
    for number in range(2):
        safepoint.run(lambda number=number: done.append(number))
    assert done == []
    with safepoint.wait():
        assert done == [0]
    with safepoint.wait():
        assert done == [0]


def test_what_it_does_may_wait_itself(done):
    with safepoint.wait():
        pass

    def stop():
        with safepoint.wait():
            done.append("stop")

    safepoint.run(stop)
    with safepoint.wait():
        assert done == ["stop"]


def test_another_thread_that_waits_says_nothing_about_the_main_one(done):
    with safepoint.wait():
        pass
    safepoint.run(lambda: done.append("stop"))

    def other():
        with safepoint.wait():
            done.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert done == ["other"]
