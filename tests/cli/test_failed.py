"""`celery -A tasks failed …`: its output, effects and errors."""

from __future__ import annotations

import json
from functools import partial

import pytest

from relevo import clock
from relevo.cli.failed import failed
from relevo.drivers.contract import NewJob, State
from relevo.store import failed as store_failed
from relevo.store.failed import FailedJob
from tests.support.workers import payload_of

HOUR = 3600


@pytest.fixture
def run(run):
    return partial(run, failed)


@pytest.fixture
def fail(store):
    """Record a failed job; returns its number."""

    def record(uuid="a-1", *, task="images.process", queue="default", hours_ago=0.0, **more):
        payload = payload_of(task, uuid, [7], queue)
        trace = "Traceback\n  line"
        error = {
            "attempt": 1,
            "exception": "ValueError",
            "message": "boom",
            "traceback": trace,
            "at": 1e9,
        }
        job = FailedJob(
            **{
                "uuid": uuid,
                "queue": queue,
                "connection": "database",
                "payload": payload,
                "exception": "ValueError",
                "message": "boom",
                "failed_at": clock.now() - hours_ago * HOUR,
                "task": task,
                "attempts": 1,
                "errors": (error,),
                **more,
            }
        )
        store.write(lambda connection: store_failed.record(connection, [job]))
        return store_failed.find_by_uuid(store, uuid).id

    return record


def ids(result):
    return [row["id"] for row in json.loads(result.stdout)]


def test_an_empty_store_is_no_error(run):
    assert run("list").output == "No failed jobs.\n"
    assert json.loads(run("list", "--json").output) == []


def test_list_is_a_table_newest_first_and_names_the_next_page(run, fail):
    numbers = [fail(f"job-{number}") for number in range(3)]
    result = run("list", "--limit", 2)
    assert result.stdout.splitlines()[0].split()[:3] == ["ID", "UUID", "TASK"]
    assert [line.split()[1] for line in result.stdout.splitlines()[1:]] == ["job-2", "job-1"]
    assert f"1 more; the next page: --before {numbers[1]}" in result.stderr
    assert ids(run("list", "--before", numbers[1], "--json")) == numbers[:1]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--queue", "high"], 1),
        (["--task", "email.send"], 1),
        (["--tag", "file:7"], 1),
        (["--since", "1h"], 2),
        ([], 3),
        (["--queue", "high", "--task", "email.send"], 0),
    ],
)
def test_list_can_be_narrowed(run, fail, filters, expected):
    fail("one", queue="high", tags=("file:7",))
    fail("two", task="email.send")
    fail("three", hours_ago=5)
    assert len(ids(run("list", "--json", *filters))) == expected


def test_texts_of_a_job_can_not_control_the_terminal(run, fail):
    fail(task="x\x1b[2J", message="one\ntwo\u2028three\r")
    output = run("list").stdout
    assert output.isascii()
    assert len(output.splitlines()) == 2
    assert "\x1b" not in output


def test_show_lists_every_attempt(run, fail):
    number = fail(tags=("a", "b"), hours_ago=0)
    for which in (number, "a-1"):
        output = run("show", which).output
        assert "attempt 1, 2001-09-09T01:46:40+00:00: ValueError: boom" in output
        assert "    line" in output
        assert "a, b" in output
    assert json.loads(run("show", number, "--json").output)["payload"].startswith("{")


def test_show_accepts_errors_of_any_shape(run, fail):
    number = fail(errors=({"at": "yesterday"}, {"at": 1e300, "traceback": None}, {}))
    assert run("show", number).exit_code == 0


@pytest.mark.parametrize("verb", ["show", "retry", "forget"])
@pytest.mark.parametrize("which", ["17", "nobody", "9" * 40, "x\0y", "٣", "-0"])
def test_an_unknown_job_is_one_line(run, fail, verb, which):
    fail()
    result = run(verb, "--", which)
    assert result.exit_code == 1
    assert "there is no failed job" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_retry_puts_each_job_back_once_and_names_the_others(run, fail, driver):
    number = fail("one", queue="high")
    result = run("retry", number, "one", "nobody", "--json")
    assert json.loads(result.stdout) == {"retried": 1, "missing": ["nobody"]}
    assert result.exit_code == 1
    assert [job.id for job in driver.peek("high", State.PENDING)] == ["one"]
    again = run("retry", number)
    assert again.exit_code == 1
    assert "retried already" in again.stderr
    assert driver.sizes("high").pending == 1


def test_retry_says_if_another_job_has_the_unique_key(run, fail, driver):
    number = fail("one", queue="high")
    driver.put([NewJob("high", "{}", "living", unique_key=f"failed:{number}")])
    result = run("retry", number)
    assert (result.exit_code, result.stdout) == (1, "0 jobs put back.\n")
    assert "another job has the unique key" in result.stderr


@pytest.mark.parametrize(
    ("which", "sent"),
    [(["all"], 3), (["--queue", "high"], 1), (["--task", "email.send"], 1), (["--tag", "x"], 2)],
)
def test_many_jobs_are_retried_by_queue_task_and_tag(run, fail, driver, which, sent):
    fail("one", queue="high", tags=("x",))
    fail("two", task="email.send", tags=("x",))
    fail("three")
    assert run("retry", *which).output == f"{sent} job{'s' * (sent > 1)} put back.\n"
    assert sum(driver.sizes(queue).pending for queue in driver.queues()) == sent


@pytest.mark.parametrize("verb", ["retry", "forget"])
@pytest.mark.parametrize(
    "which",
    [[], ["all", "1"], ["1", "--queue", "high"], ["all", "--tag", "x"], [*map(str, range(1001))]],
    ids=["nothing", "all and one", "one and a queue", "all and a tag", "too many"],
)
def test_an_ambiguous_selection_is_refused(run, fail, driver, verb, which):
    fail()
    result = run(verb, *which)
    assert result.exit_code == 2
    assert "expected" in result.stderr
    assert driver.queues() == []


def test_forget_asks_and_the_answer_no_changes_nothing(run, fail, store):
    fail("one")
    fail("two")
    refused = run("forget", "all", typed="n\n")
    assert refused.exit_code == 1
    assert "Delete 2 failed jobs?" in refused.stderr
    assert store_failed.count(store) == 2
    assert run("forget", "one", "--yes").output == "1 failed job deleted.\n"
    assert run("forget", "all", typed="y\n").exit_code == 0
    assert store_failed.count(store) == 0


def test_a_retried_job_can_be_forgotten_too(run, fail, store):
    number = fail()
    run("retry", number)
    assert run("forget", number, "--yes").exit_code == 0
    assert store_failed.find(store, number) is None


def test_flush_deletes_old_jobs_or_all(run, fail, store):
    fail("old", hours_ago=49)
    fail("new")
    assert run("flush", typed="n\n").exit_code == 1
    assert run("flush", "--hours", 48, "--yes").output == "1 failed job deleted.\n"
    assert store_failed.find_by_uuid(store, "new") is not None
    assert run("flush", "--yes").output == "1 failed job deleted.\n"


def test_prune_asks_no_question_and_obeys_the_setting(run, fail, store):
    fail("old", hours_ago=24 * 7 + 1)
    fail("new", hours_ago=24 * 7 - 1)
    assert run("prune").output == "1 failed job deleted.\n"
    assert json.loads(run("prune", "--hours", 1, "--json").output) == {"deleted": 1}


@pytest.mark.parametrize("hours", ["-1", "soon", "nan", "inf", "1e3", ""])
def test_invalid_hours_are_refused(run, fail, hours, store):
    fail()
    assert run("flush", "--hours", hours, "--yes").exit_code == 2
    assert run("prune", "--hours", hours).exit_code == 2
    assert store_failed.count(store) == 1


def test_a_store_that_is_not_ready_is_an_error_of_one_line(run, store):
    store.read(lambda connection: None)
    store.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE relevo_version SET version_num = '0001'"
        )
    )
    result = run("list")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0].endswith("run `celery -A tasks schema upgrade`")
