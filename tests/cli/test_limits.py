"""`celery -A tasks limits`: limits are shown, set and cleared."""

from __future__ import annotations

import json
from functools import partial

import pytest

from relevo.cli.limits import limits as command
from relevo.drivers.contract import NewJob
from relevo.limits.breakers import Breaker
from relevo.limits.contract import Holder
from relevo.limits.rates import Rate
from relevo.middleware.limit_context import limits_for


@pytest.fixture
def run(run):
    return partial(run, command)


@pytest.fixture
def limits(app, driver):
    app.limits.define("mail", "2/hour")
    return limits_for(driver)


@pytest.fixture
def used(driver, limits):
    """A held permit, a job that waits for it, a rate that is used up, errors."""
    for name in ("a", "b"):
        driver.put([NewJob(name, "{}", name)])
        [job] = driver.reserve([name], 1, 30, "worker")
        limits.take("overlap/images.process/7", 1, Holder(job.lease.token, name, "images.process"))
        if name == "b":
            driver.release([job.lease], 60)
    limits.hit("rate/mail/1", Rate.of("2/hour"), 2, "c")
    limits.record_error("errors/api", Breaker(1, 60, 60))


def listed(result):
    return [(row["key"], row["used"], row["waiting"]) for row in json.loads(result.stdout)]


def test_no_limit_is_in_use_at_first(run, limits):
    assert run("list").stdout == "No limit is in use.\n"


def test_each_limit_shows_its_use_and_waiting_jobs(run, used):
    assert listed(run("list", "--json")) == [
        ("errors/api", "1", 0),
        ("overlap/images.process/7", "1 of 1", 1),
        ("rate/mail/1", "2 of 2", 0),
    ]
    assert listed(run("list", "--kind", "rate", "--json")) == [("rate/mail/1", "2 of 2", 0)]
    assert listed(run("list", "overlap/images", "--json")) == [
        ("overlap/images.process/7", "1 of 1", 1)
    ]
    assert "2/hour fixed" in run("list").stdout


def test_one_limit_shows_its_holders(run, used):
    said = run("show", "overlap/images.process/7").stdout
    assert "images.process a, since 20" in said
    assert "lease until 20" in said
    assert json.loads(run("show", "overlap/images.process/7", "--json").stdout)["line"] == ["b"]
    missing = run("show", "overlap/images.process/8")
    assert (missing.exit_code, missing.stderr) == (
        1,
        "Error: no limit 'overlap/images.process/8' is in use\n",
    )


def test_a_cleared_limit_is_free_and_waiting_jobs_are_called(run, used, limits, driver):
    assert run("clear", "overlap/images.process/7").exit_code == 1  # no answer
    result = run("clear", "overlap/images.process/7", "rate/mail/1", "--yes")
    assert result.stdout == "2 limits cleared, 1 job called.\n"
    assert [view.key for view in limits.views()] == ["errors/api"]
    assert driver.sizes("b").pending == 1
    assert run("clear", "rate/mail/1", "--yes").exit_code == 1


def test_a_rate_is_set_for_all_workers_and_reset(run, limits):
    assert (
        run("set", "mail", "20/hour", "--kind", "moving").stdout
        == "mail: 20/hour moving from now on.\n"
    )
    assert limits.redefined_rates() == {"mail": Rate.of("20/hour", "moving")}
    [row] = json.loads(run("rates", "--json").stdout)
    assert row == {"name": "mail", "rate": "2/hour fixed", "set": "20/hour moving"}
    assert run("set", "mail", "default").stdout == "mail: 2/hour fixed.\n"
    assert limits.redefined_rates() == {}


def test_jobs_that_wait_for_the_old_rate_are_tried_at_once_when_it_changes(run, limits, driver):
    for job_id in "cd":
        wait = limits.hit("rate/mail/9", Rate.of("1/day"), 1, job_id)
        driver.put([NewJob("mails", "{}", job_id, available_at=driver.now() + wait)])
    assert driver.sizes("mails").delayed == 1
    assert run("set", "mail", "20/second").exit_code == 0
    assert driver.sizes("mails").pending == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "mial", "1/hour"], "no limit named 'mial'; known are mail"),
        (["set", "mail", "often"], "expected a rate like"),
        (["set", "mail", "1/hour", "--burst", "3"], "only with a bucket"),
        (["set", "a/b", "1/hour"], "without '/'"),
        (["clear", "nothing", "--yes"], "no limit 'nothing' is in use"),
    ],
)
def test_invalid_input_is_one_line(run, limits, words, said):
    result = run(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
