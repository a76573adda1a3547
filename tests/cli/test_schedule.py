"""`celery -A tasks schedule list|history|run|pause|resume`."""

from __future__ import annotations

import json

import pytest
from celery.schedules import crontab

from relevo.cli.schedule import schedule
from relevo.schedule.beat import Scheduler
from relevo.store import audit, schedules


@pytest.fixture
def app(app):
    @app.task(name="reports.daily", shared=False)
    def daily():
        """Do nothing: the job is only dispatched."""

    app.conf.beat_schedule = {
        "the \x1b[2J report": {"task": "reports.daily", "schedule": crontab(minute=3, hour=6)},
        "often": {
            "task": "reports.daily",
            "schedule": 60.0,
            "options": {"queue": "low"},
            "catch_up": "none",
        },
    }
    app.conf.result_expires = None
    return app


def test_the_list_shows_when_each_entry_is_due_and_its_last_run(app, run):
    Scheduler(app).tick()
    lines = run(schedule, "list").output.splitlines()
    assert lines[0].split() == ["ENTRY", "TASK", "SCHEDULE", "QUEUE", "NEXT", "LAST", "STATE"]
    assert "Every minute" in lines[1]
    assert "the \\x1b[2J report" in lines[2]
    assert "At 06:03 (UTC)" in lines[2]
    run(schedule, "run", "often")
    [often, _] = json.loads(run(schedule, "list", "--json").output)
    assert (often["queue"], often["catch_up"], often["paused"]) == ("low", "none", False)
    assert often["last"]["state"] == "pending"


def test_run_makes_a_job_a_run_and_a_line_in_the_audit_log(app, run, driver, store):
    said = json.loads(run(schedule, "run", "often", "--json").output)
    assert driver.find([said["job"]])[0].queue == "low"
    [row] = json.loads(run(schedule, "history", "often", "--json").output)
    assert (row["job"], row["state"]) == (said["job"], "pending")
    assert row["by"] != "beat"
    [entry] = audit.page(store)
    assert (entry.action, entry.target, entry.outcome) == (
        "run entry",
        "often",
        f"job {said['job']}",
    )
    assert entry.who.endswith("(command line)")


def test_run_now_says_if_another_job_has_the_unique_key(app, run, store):
    app.conf.beat_schedule["often"]["options"]["unique_by"] = []
    assert "'often' runs as job" in run(schedule, "run", "often").output
    assert (
        run(schedule, "run", "often").output
        == "'often' has not run: another job has its unique key.\n"
    )
    assert [row["state"] for row in json.loads(run(schedule, "history", "--json").output)] == [
        "cancelled",
        "pending",
    ]
    assert audit.page(store)[0].outcome == "'often' has not run: another job has its unique key."


def test_history_continues_where_the_page_ends(app, run):
    for _ in range(3):
        run(schedule, "run", "often")
    first = run(schedule, "history", "--limit", 2)
    assert "the next page: --before 2" in first.stderr
    assert len(json.loads(run(schedule, "history", "--before", 2, "--json").output)) == 1
    assert "No runs." in run(schedule, "history", "never").output


def test_an_entry_can_be_paused_and_resumed(app, run, store):
    assert "is paused until it is resumed" in run(schedule, "pause", "often").output
    assert "paused until it is resumed" in run(schedule, "list").output
    assert "is paused until 2" in run(schedule, "pause", "often", "--for", "2h").output
    assert schedules.read(store)["often"].paused_until
    assert "goes on" in run(schedule, "resume", "often").output
    assert "was not paused" in run(schedule, "resume", "often").output


@pytest.mark.parametrize("verb", ["run", "pause", "resume"])
def test_an_unknown_entry_is_one_line_and_is_not_in_the_audit_log(app, run, store, verb):
    done = run(schedule, verb, "offen")
    assert done.exit_code == 1
    assert done.stderr == "Error: no entry 'offen' in beat_schedule; did you mean 'often'?\n"
    assert audit.page(store) == []


def test_an_invalid_entry_is_one_line(app, run):
    app.conf.beat_schedule["worse"] = {"task": "reports.daily", "schedule": "daily"}
    done = run(schedule, "list")
    assert (done.exit_code, "entry 'worse' of beat_schedule" in done.stderr) == (1, True)


def test_invalid_arguments_are_exit_code_2(app, run):
    assert run(schedule, "pause", "often", "--for", "soon").exit_code == 2
    assert (
        run(schedule, "pause", "often", "--for", "3000000d").exit_code == 2
    )  # its end could not be told any more
    assert run(schedule, "history", "--before", "-1").exit_code == 2
    assert run(schedule, "history", "--before", "9" * 20).exit_code == 2
