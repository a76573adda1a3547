"""`celery -A tasks queues monitor`: thresholds, the exit code, and the event."""

from __future__ import annotations

import json
from functools import partial

import pytest

import relevo
from relevo import events as listeners
from relevo.cli.queues import queues
from relevo.drivers.contract import NewJob


@pytest.fixture
def run(run):
    return partial(run, queues, "monitor")


@pytest.fixture
def put(driver):
    def put(queue, count, **more):
        driver.put([NewJob(queue, "{}", f"{queue}-{number}", **more) for number in range(count)])

    return put


@pytest.fixture
def heard():
    events = []

    @relevo.on("queue_busy")
    def listener(event):
        events.append(event)

    yield events
    listeners.remove(listener)


def states(result):
    return {row["queue"]: row["state"] for row in json.loads(result.stdout)}


def test_a_queue_at_the_threshold_is_ok(run, put, heard):
    put("default", 3)
    result = run("--max", 3)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert heard == []


def test_a_queue_over_the_threshold_is_exit_code_1_and_an_event(run, put, heard):
    put("default", 3)
    put("high", 2)
    result = run("--max", 2, "--json")
    assert result.exit_code == 1
    assert states(result)["default"] == "busy"
    assert states(result)["high"] == "ok"
    assert "1 queue over the threshold: default" in result.stderr
    (event,) = heard
    assert (event.queue, event.pending, event.most, event.longest) == ("default", 3, 2, None)


def test_each_queue_may_have_its_own_threshold_and_others_are_not_checked(run, put):
    for queue in ("default", "high", "low"):
        put(queue, 3)
    assert states(run("default:5", "high:1", "empty", "--json")) == {
        "default": "ok",
        "high": "busy",
        "empty": "ok",
    }


def test_the_oldest_job_has_a_threshold_too(run, put, driver, monkeypatch):
    put("default", 1)
    later = driver.now() + 61
    monkeypatch.setattr(driver, "_clock", lambda: later)
    assert run("--longest", "60").exit_code == 1
    assert run("--longest", "62").exit_code == 0


def test_delayed_jobs_do_not_count(run, put, driver):
    put("default", 5, available_at=driver.now() + 60)
    assert run("--max", 0).exit_code == 0


def test_a_listener_that_raises_changes_nothing(run, put, heard):
    @relevo.on("queue_busy")
    def broken(event):
        raise RuntimeError

    put("default", 1)
    result = run("--max", 0)
    listeners.remove(broken)
    assert result.exit_code == 1
    assert len(heard) == 1


@pytest.mark.parametrize("wrong", ["default:", ":5", "default:-1", "default:soon", "a:" + "9" * 13])
def test_an_invalid_threshold_is_refused(run, wrong):
    result = run(wrong)
    assert result.exit_code == 2
    assert "expected QUEUE or QUEUE:MAX" in result.stderr
