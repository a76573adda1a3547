"""`celery -A tasks jobs list|show|delete`: jobs in the broker and in the history."""

from __future__ import annotations

import json
from functools import partial

import pytest

from relevo import clock
from relevo.cli.jobs import jobs
from relevo.drivers.contract import NewJob, State
from relevo.store import history, outcomes
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending
from tests.support.workers import payload_of


@pytest.fixture
def run(run):
    return partial(run, jobs)


@pytest.fixture
def put(driver):
    def put(id_, queue="default", *, task="images.process", tags=(), **more):
        message = json.loads(payload_of(task, id_, [7], queue))
        message["headers"]["relevo"] = {"tags": list(tags)}
        driver.put([NewJob(queue, json.dumps(message), id_, **more)])

    return put


@pytest.fixture
def end(store):
    def end(id_, state, **more):
        job = EndedJob(id_, "images.process", "database", "default", state, 1, clock.now(), **more)
        outcomes.write(store, [Ending(job)])

    return end


@pytest.fixture
def three(put, driver):
    """One job in each state, named after it."""
    put("reserved")
    driver.reserve(["default"], 1, 60, "worker:1")
    put("pending", "high", task="email.send", tags=["user:3"])
    put("delayed", available_at=driver.now() + 600)


def ids(result):
    return [row["id"] for row in json.loads(result.stdout)]


def test_an_empty_broker_says_where_to_look(run):
    assert run("list").output == "No job in the broker; --state completed shows completed jobs.\n"
    assert json.loads(run("list", "--json").output) == []


def test_list_shows_the_jobs_in_the_broker_reserved_ones_first(run, three):
    assert ids(run("list", "--json")) == ["reserved", "pending", "delayed"]
    table = run("list").stdout.splitlines()
    assert table[0].split() == ["ID", "TASK", "QUEUE", "STATE", "ATTEMPTS", "AT", "ARGUMENTS"]
    assert "[7] {}" in table[1]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--state", "pending"], ["pending"]),
        (["--state", "delayed", "--state", "reserved"], ["reserved", "delayed"]),
        (["--queue", "high"], ["pending"]),
        (["--task", "images.process"], ["reserved", "delayed"]),
        (["--tag", "user:3"], ["pending"]),
        (["--tag", "user:3", "--queue", "default"], []),
        (["--task", "%"], []),
        (["--queue", "nobody's"], []),
    ],
)
def test_list_can_be_narrowed(run, three, filters, found):
    assert ids(run("list", "--json", *filters)) == found


def test_history_is_a_state_like_the_others(run, end, put):
    end("done", Ended.COMPLETED, tags=("file:7",))
    end("broken", Ended.FAILED, message="ValueError: x")
    put("waiting")
    assert ids(run("list", "--state", "completed", "--json")) == ["done"]
    assert ids(run("list", "--state", "failed", "--state", "pending", "--json")) == [
        "waiting",
        "broken",
    ]
    assert ids(run("list", "--state", "completed", "--tag", "file:8", "--json")) == []
    assert ids(run("list", "--state", "completed", "--task", "images.process", "--json")) == [
        "done"
    ]
    assert ids(run("list", "--state", "completed", "--queue", "high", "--json")) == []


@pytest.mark.parametrize("filters", [[], ["--task", "images.process"]])
def test_list_says_if_there_are_more_than_the_limit(run, put, filters):
    for number in range(3):
        put(f"job-{number}")
    result = run("list", "--limit", 2, *filters)
    assert len(result.stdout.splitlines()) == 3
    assert "There are more" in result.stderr


def test_a_malformed_payload_is_shown(run, driver):
    driver.put(
        [
            NewJob("default", payload, f"job-{at}")
            for at, payload in enumerate(["", "[1]", '{"headers": 3}'])
        ]
    )
    assert [row["task"] for row in json.loads(run("list", "--json").stdout)] == ["?", "?", "?"]
    assert run("show", "job-0").exit_code == 0


def test_show_covers_the_broker_and_the_history(run, three, end):
    assert "reserved_by     worker:1" in run("show", "reserved").output
    end("reserved", Ended.FAILED, message="ValueError: x")
    shown = json.loads(run("show", "reserved", "--json").output)
    assert shown["living"][0]["state"] == "reserved"
    assert shown["ended"]["message"] == "ValueError: x"
    assert run("show", "nobody").exit_code == 1


def test_delete_asks_and_then_leaves_no_trace(run, three, driver, store, end):
    end("pending", Ended.FAILED)
    end("old", Ended.COMPLETED)
    assert run("delete", "pending", typed="n\n").exit_code == 1
    result = run("delete", "pending", "reserved", "old", "nobody", "--yes", "--json")
    assert json.loads(result.stdout) == {"broker": 2, "history": 2, "missing": ["nobody"]}
    assert result.exit_code == 1
    assert [view.id for view in driver.scan()[0]] == ["delayed"]
    assert history.find(store, "old") is None


def test_delete_by_queue_task_and_tag(run, three, driver):
    assert run("delete", "--queue", "default", "--yes").exit_code == 0
    assert [view.id for view in driver.scan()[0]] == ["pending"]


@pytest.mark.parametrize("verb", ["cancel", "delete"])
@pytest.mark.parametrize("words", [[], ["pending", "--queue", "high"]])
def test_an_ambiguous_selection_is_refused(run, three, driver, verb, words):
    result = run(verb, *words, "--yes")
    assert result.exit_code == 2
    assert "expected ids" in result.stderr
    assert driver.sizes("high").pending == 1


@pytest.mark.parametrize("verb", ["cancel", "delete", "show"])
def test_an_invalid_id_is_one_line(run, three, verb):
    result = run(verb, "x\0y", *([] if verb == "show" else ["--yes"]))
    assert result.exit_code == 1
    assert "expected id to be a text without NUL" in result.stderr


def test_these_commands_leave_queues_peek_as_it_was(run, three, driver):
    run("list")
    run("show", "delayed")
    assert [len(driver.peek("default", state)) for state in State] == [1, 0, 1]
