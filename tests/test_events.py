"""Events: each is emitted once, where it happens; a failing listener stops nothing."""

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
def emitted():
    """All events, in the order emitted."""
    seen: list[JobEvent] = []
    relevo.on(*Event)(seen.append)
    listener = events._listeners[Event.FAILED][-1]
    yield seen
    events.remove(listener)


def names(emitted, result):
    return [each.event.value for each in emitted if each.id == result.id]


def test_each_step_of_a_job_emits_its_event(app, worker, emitted):
    @app.task(name="shop.process", shared=False, bind=True, tries=2, backoff=0)
    def process(self):
        if self.attempt == 1:
            raise ValueError("no")

    with worker():
        result = process.delay()
        eventually(lambda: Event.PROCESSED in names(emitted, result))
    assert names(emitted, result) == [
        "dispatched",
        "reserved",
        "processing",
        "released",
        "reserved",
        "processing",
        "processed",
    ]
    released, last = emitted[3], emitted[-1]
    assert (released.task, released.queue, released.attempt, released.error) == (
        "shop.process",
        "default",
        1,
        "ValueError('no')",
    )
    assert (last.attempt, last.error) == (2, None)
    assert last.seconds >= 0


def test_a_release_is_emitted_without_an_error(app, worker, emitted):
    runs = []

    @app.task(name="shop.release", shared=False, bind=True)
    def release(self):
        runs.append(True)
        if len(runs) == 1:
            self.release(0.05)

    with worker():
        result = release.delay()
        eventually(lambda: Event.PROCESSED in names(emitted, result))
    [released] = [each for each in emitted if each.event is Event.RELEASED]
    assert (released.error, released.seconds) == (None, 0.05)


def test_a_failure_is_emitted_once_also_for_an_unreadable_message(app, worker, emitted, driver):
    @app.task(name="shop.fail", shared=False)
    def fail():
        raise ValueError("no")

    driver.put([NewJob("default", "no message", "unreadable")])
    with worker():
        result = fail.delay()
        eventually(lambda: not jobs_in(driver))
    failed = {each.id: each.error for each in emitted if each.event is Event.FAILED}
    assert failed[result.id] == "ValueError: no"
    assert failed["unreadable"].startswith("relevo.errors.UndeliverableError: it can't be read")
    assert len([each for each in emitted if each.event is Event.FAILED]) == 2


def test_a_rescued_job_emits_rescued(app, worker, emitted, driver):
    @app.task(name="shop.rescued", shared=False)
    def rescued(): ...

    result = rescued.delay()
    driver.reserve(["default"], 1, 0.01, "a worker that dies")
    eventually(driver.rescue)
    with worker():
        eventually(lambda: Event.PROCESSED in names(emitted, result))
    assert names(emitted, result) == [
        "dispatched",
        "rescued",
        "reserved",
        "processing",
        "processed",
    ]
    assert emitted[1].rescues == 1


def test_a_timeout_is_emitted_before_the_event_that_follows_from_it(emitted, monkeypatch):
    shop = make_app(task_ignore_result=True)

    @shop.task(name="process", tries=2)
    def process(): ...

    monkeypatch.setattr(shop, "send_task", lambda *_, **__: None)
    Delivery(shop, process).ends_in(TimeLimitExceeded(5))
    assert sorted(each.event for each in emitted if each.task == "process") == [
        "released",
        "timed_out",
    ]


def test_a_failing_listener_stops_nothing(app, worker, emitted, caplog):
    def broken(_event):
        raise ZeroDivisionError

    relevo.on("processing", "processed", "reserved", "dispatched")(broken)
    try:

        @app.task(name="shop.add", shared=False)
        def add(): ...

        with worker():
            result = add.delay()
            eventually(
                lambda: Event.PROCESSED in names(emitted, result) and result.state == "SUCCESS"
            )
    finally:
        events.remove(broken)
    assert "ZeroDivisionError" in caplog.text


def test_an_event_that_does_not_exist_is_refused_with_the_likely_one():
    with pytest.raises(OptionError, match="did you mean 'failed'"):
        relevo.on("fialed")


def test_an_event_without_listeners_is_not_connected(app, emitted):
    """Celery sends a signal only to receivers; the fixture has connected ours, once each."""
    for signal in (after_task_publish, task_received):
        ours = [key for key, _ in signal.receivers if "relevo.events" in str(key)]
        assert len(ours) <= 1
