"""Events: each told once, where it happens, to whoever listens; a listener that fails harms nobody."""

from __future__ import annotations

import pytest
from celery.exceptions import TimeLimitExceeded
from celery.signals import after_task_publish, task_received

import relevo
from relevo import events
from relevo.drivers.values import NewJob
from relevo.errors import OptionError
from relevo.events import Event, JobEvent
from tests.support.delivery import Delivery
from tests.support.driver_jobs import jobs_in
from tests.support.memory_app import make_app
from tests.support.waits import eventually


@pytest.fixture
def app(sqlite_app):
    return sqlite_app


@pytest.fixture
def told():
    """Every event, in the order told."""
    seen: list[JobEvent] = []
    relevo.on(*Event)(seen.append)
    listener = events._listeners[Event.FAILED][-1]
    yield seen
    events.remove(listener)


def names(told, result):
    return [each.event.value for each in told if each.id == result.id]


def test_the_life_of_a_job_is_told(app, worker, told):
    @app.task(name="shop.process", shared=False, bind=True, tries=2, backoff=0)
    def process(self):
        if self.attempt == 1:
            raise ValueError("no")

    with worker():
        result = process.delay()
        eventually(lambda: Event.PROCESSED in names(told, result))
    assert names(told, result) == [
        "dispatched",
        "reserved",
        "processing",
        "released",
        "reserved",
        "processing",
        "processed",
    ]
    released, last = told[3], told[-1]
    assert (released.task, released.queue, released.attempt, released.error) == (
        "shop.process",
        "default",
        1,
        "ValueError('no')",
    )
    assert (last.attempt, last.error) == (2, None)
    assert last.seconds >= 0


def test_a_release_is_told_without_an_error(app, worker, told):
    runs = []

    @app.task(name="shop.release", shared=False, bind=True)
    def release(self):
        runs.append(True)
        if len(runs) == 1:
            self.release(0.05)

    with worker():
        result = release.delay()
        eventually(lambda: Event.PROCESSED in names(told, result))
    [released] = [each for each in told if each.event is Event.RELEASED]
    assert (released.error, released.seconds) == (None, 0.05)


def test_a_failure_is_told_once_also_of_what_nobody_can_run(app, worker, told, driver):
    @app.task(name="shop.fail", shared=False)
    def fail():
        raise ValueError("no")

    driver.put([NewJob("default", "no message", "unreadable")])
    with worker():
        result = fail.delay()
        eventually(lambda: not jobs_in(driver))
    failed = {each.id: each.error for each in told if each.event is Event.FAILED}
    assert failed[result.id] == "ValueError: no"
    assert failed["unreadable"].startswith("relevo.errors.UndeliverableError: it can't be read")
    assert len([each for each in told if each.event is Event.FAILED]) == 2


def test_a_job_that_was_rescued_says_so(app, worker, told, driver):
    @app.task(name="shop.rescued", shared=False)
    def rescued(): ...

    result = rescued.delay()
    driver.reserve(["default"], 1, 0.01, "a worker that dies")
    eventually(driver.rescue)
    with worker():
        eventually(lambda: Event.PROCESSED in names(told, result))
    assert names(told, result) == ["dispatched", "rescued", "reserved", "processing", "processed"]
    assert told[1].rescues == 1


def test_a_timeout_is_told_before_what_follows_from_it(told, monkeypatch):
    shop = make_app(task_ignore_result=True)

    @shop.task(name="process", tries=2)
    def process(): ...

    monkeypatch.setattr(shop, "send_task", lambda *_, **__: None)
    Delivery(shop, process).ends_in(TimeLimitExceeded(5))
    assert sorted(each.event for each in told if each.task == "process") == [
        "released",
        "timed_out",
    ]


def test_a_listener_that_fails_harms_nobody(app, worker, told, caplog):
    def broken(_event):
        raise ZeroDivisionError

    relevo.on("processing", "processed", "reserved", "dispatched")(broken)
    try:

        @app.task(name="shop.add", shared=False)
        def add(): ...

        with worker():
            result = add.delay()
            eventually(lambda: Event.PROCESSED in names(told, result) and result.state == "SUCCESS")
    finally:
        events.remove(broken)
    assert "ZeroDivisionError" in caplog.text


def test_an_event_that_does_not_exist_is_refused_with_the_likely_one():
    with pytest.raises(OptionError, match="did you mean 'failed'"):
        relevo.on("fialed")


def test_what_nobody_listens_to_is_not_connected(app, told):
    """Celery makes and sends a signal only to receivers; the fixture has connected ours, once each."""
    for signal in (after_task_publish, task_received):
        ours = [key for key, _ in signal.receivers if "relevo.events" in str(key)]
        assert len(ours) <= 1
