"""`celery -A tasks pauses list|add|lift`: what is paused, by queue, task or tag, and until when."""

from __future__ import annotations

import json

from relevo import clock
from relevo.cli.pauses import pauses
from relevo.drivers.contract import NewJob


def test_every_pause_is_there_with_its_end(run, driver):
    assert run(pauses, "list").stdout == "Nothing is paused.\n"
    driver.put([NewJob("low", "{}", "a")])
    driver.pause("low")
    driver.pause("high", driver.now() + 60)
    driver.pause("over", driver.now() - 1)
    [high, low] = json.loads(run(pauses, "list", "--json").stdout)
    assert low == {"kind": "queue", "name": "low", "waiting": 1, "until": None}
    assert (high["name"], high["waiting"]) == ("high", 0)
    assert high["until"][:13] in {clock.utc(clock.now() + left).isoformat()[:13] for left in (0, 60)}


def test_queues_tasks_and_tags_are_paused_and_go_on(run, driver):
    # Given a pause of each kind
    said = run(pauses, "add", "queue:low", "task:celery.ping_me", "tag:user:7")
    assert "no task named 'celery.ping_me'" in said.output
    assert (driver.paused(), driver.suspended()) == ({}, {})
    assert run(pauses, "add", "--for", "15m", "queue:low", "task:celery.accumulate", "tag:user:7").exit_code == 0
    assert set(driver.paused()) == {"low"}
    assert set(driver.suspended()) == {"task:celery.accumulate", "tag:user:7"}
    rows = json.loads(run(pauses, "list", "--json").stdout)
    assert [(row["kind"], row["name"], row["waiting"]) for row in rows] == [
        ("queue", "low", 0), ("tag", "user:7", 0), ("task", "celery.accumulate", 0)
    ]  # fmt: skip

    # When they are lifted, I expect nothing to be paused
    assert run(pauses, "lift", "queue:low", "task:celery.accumulate", "tag:user:7").exit_code == 0
    assert (driver.paused(), driver.suspended()) == ({}, {})


def test_what_is_no_pause_is_refused(run, driver):
    for given in ("low", "queue:", "job:1"):
        assert "expected queue:NAME, task:NAME or tag:TEXT" in run(pauses, "add", given).output
    assert driver.suspended() == {}
