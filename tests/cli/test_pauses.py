"""`celery -A tasks pauses list|add|lift`: pauses of queues, tasks and tags, and when they end."""

from __future__ import annotations

import json

from relevo import clock
from relevo.cli.pauses import pauses
from relevo.drivers.contract import NewJob
from relevo.drivers.message_codec import HEADER
from relevo.transport.suspensions import Suspensions


def test_every_pause_is_listed_with_its_end(run, driver):
    assert run(pauses, "list").stdout == "Nothing is paused.\n"
    driver.put([NewJob("low", "{}", "a")])
    driver.pause("low")
    driver.pause("high", driver.now() + 60)
    driver.pause("over", driver.now() - 1)
    [high, low] = json.loads(run(pauses, "list", "--json").stdout)
    assert low == {"kind": "queue", "name": "low", "waiting": 1, "until": None}
    assert (high["name"], high["waiting"]) == ("high", 0)
    assert high["until"][:13] in {
        clock.utc(clock.now() + left).isoformat()[:13] for left in (0, 60)
    }


def test_queues_tasks_and_tags_are_paused_and_resumed(run, driver):
    # Given a pause of each kind
    said = run(pauses, "add", "queue:low", "task:celery.ping_me", "tag:user:7")
    assert "no task named 'celery.ping_me'" in said.output
    assert (driver.paused(), driver.suspended()) == ({}, {})
    assert (
        run(
            pauses, "add", "--for", "15m", "queue:low", "task:celery.accumulate", "tag:user:7"
        ).exit_code
        == 0
    )
    assert set(driver.paused()) == {"low"}
    assert set(driver.suspended()) == {"task:celery.accumulate", "tag:user:7"}
    rows = json.loads(run(pauses, "list", "--json").stdout)
    assert [(row["kind"], row["name"], row["waiting"]) for row in rows] == [
        ("queue", "low", 0),
        ("tag", "user:7", 0),
        ("task", "celery.accumulate", 0),
    ]

    # When they are lifted, I expect nothing to be paused
    assert run(pauses, "lift", "queue:low", "task:celery.accumulate", "tag:user:7").exit_code == 0
    assert (driver.paused(), driver.suspended()) == ({}, {})


def test_an_invalid_pause_is_refused(run, driver):
    for given in ("low", "queue:", "job:1"):
        assert "expected queue:NAME, task:NAME or tag:TEXT" in run(pauses, "add", given).output
    assert driver.suspended() == {}


def test_a_tag_of_any_length_can_be_paused_and_lifted(run, driver):
    # Given two tags that differ after the longest name that a broker keeps, one of them paused
    tag, other = "x" * 300 + "1", "x" * 300 + "2"
    assert run(pauses, "add", f"tag:{tag}").exit_code == 0
    for name in (tag, other):
        driver.put(
            [
                NewJob(
                    "low",
                    json.dumps({"headers": {"task": "t", HEADER: {"tags": [name]}}}),
                    name[-1],
                )
            ]
        )

    # When a worker reserves jobs with them
    worker = Suspensions(driver)
    worker.refresh()
    free = worker.park(driver.reserve(["low"], 2, 30, "worker"))

    # I expect the one to be parked, and to be due when the pause is lifted
    assert [job.id for job in free] == ["2"]
    assert json.loads(run(pauses, "list", "--json").stdout)[0]["waiting"] == 1
    assert run(pauses, "lift", f"tag:{tag}").exit_code == 0
    assert [job.id for job in driver.reserve(["low"], 2, 30, "worker")] == ["1"]
    assert driver.suspended() == {}


def test_a_name_that_is_too_long_for_a_broker_is_refused_in_one_line(run, driver):
    for name in ("tag:a\0b", "tag:\ud800"):
        said = run(pauses, "add", name)
        assert (said.exit_code, "Traceback" in said.output) == (1, False)
    assert driver.suspended() == {}
