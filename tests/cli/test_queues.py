"""`celery -A tasks queues …` and `schema …`: their output, effects and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from celery import Celery
from click.testing import CliRunner

from relevo import drivers
from relevo.cli.options import Duration
from relevo.cli.queues import queues
from relevo.cli.schema import schema
from relevo.database.schema import NEWEST
from relevo.drivers.contract import NewJob, State
from relevo.transport import registration
from tests.support.waits import LONG


@pytest.fixture
def app(tmp_path):
    registration.register_transport()
    app = Celery("shop", broker=f"sqlite:///{tmp_path}/jobs.sqlite3")
    app.conf.task_default_queue = "default"
    return app


@pytest.fixture
def driver(app):
    return drivers.driver_for(
        app.conf.broker_url, app.conf.broker_transport_options, app.conf.broker_use_ssl
    )


@pytest.fixture
def run(app):
    def run(*arguments, group=queues, typed=""):
        return CliRunner().invoke(group, list(arguments), obj=SimpleNamespace(app=app), input=typed)

    return run


def put(driver, queue="default", count=3):
    payload = json.dumps({"headers": {"task": "images.process"}, "body": "[]"})
    driver.put([NewJob(queue, payload, f"job-{number}") for number in range(count)])


def test_list_counts_every_queue_and_shows_its_pause(run, driver):
    put(driver)
    driver.pause("default")
    rows = {row["queue"]: row for row in json.loads(run("list", "--json").output)}
    assert rows["default"]["pending"] == 3
    assert rows["default"]["paused"] == "until resumed"
    assert "default" in run("list").output


def test_peek_shows_the_next_jobs_and_reserves_none(run, driver):
    put(driver)
    output = run("peek", "default", "--limit", "2").output
    assert "job-0" in output
    assert "job-2" not in output
    assert "images.process" in output
    assert driver.sizes("default").pending == 3


def test_peek_of_an_empty_queue_says_so(run):
    assert (
        "No job of queue 'default' is delayed"
        in run("peek", "default", "--state", "delayed").output
    )


def test_a_pause_ends_after_its_duration(run, driver):
    assert run("pause", "default", "high", "--for", "15m").exit_code == 0
    until = driver.paused()
    assert set(until) == {"default", "high"}
    assert 0 < until["default"] - driver.now() <= 15 * 60
    run("resume", "default")
    assert set(driver.paused()) == {"high"}


@pytest.mark.parametrize("wrong", ["soon", "-5", "", "1e9", "5 parsecs", "٣m", "9" * 30, "0"])
def test_an_invalid_duration_is_refused(run, driver, wrong):
    result = run("pause", "default", "--for", wrong)
    assert result.exit_code == 2
    assert "expected a duration" in result.output
    assert driver.paused() == {}


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("4h", 14400), ("2d", 172800)]
)
def test_durations_are_read_in_every_unit(text, seconds):
    assert Duration().convert(text, None, None) == seconds


def test_clear_asks_and_the_answer_no_changes_nothing(run, driver):
    put(driver)
    refused = run("clear", "default", typed="n\n")
    assert refused.exit_code == 1
    assert "Delete 3 jobs" in refused.output
    assert driver.sizes("default").pending == 3


def test_clear_with_yes_deletes_waiting_jobs_and_no_running_ones(run, driver):
    put(driver)
    driver.reserve(["default"], 1, 30, "worker")
    assert "default: 2 jobs deleted" in run("clear", "default", "--yes").output
    assert [job.id for job in driver.peek("default", State.RESERVED)] == ["job-0"]


def test_adopt_is_for_redis_only(run):
    result = run("adopt", "--yes")
    assert result.exit_code == 2
    assert "this connection is sqlite" in result.output


def test_a_hostile_queue_name_is_printed_in_one_line(run):
    result = run("peek", "x\0y")
    assert result.exit_code == 1
    assert "expected queue to be a text without NUL" in result.output


def test_schema_shows_the_version_of_the_tables(run):
    assert f"tables: {NEWEST}, code: {NEWEST}" in run("show", group=schema).output
    assert run("upgrade", group=schema).exit_code == 0


def test_celery_finds_the_commands():
    listed = subprocess.run(
        [sys.executable, "-m", "celery", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=LONG,
    )
    assert {"queues", "schema"} <= set(listed.stdout.split())
