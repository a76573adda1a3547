"""`celery -A tasks jobs cancel`: waiting jobs never run, a running attempt is the last.

With workers: tests/faults.
"""

from __future__ import annotations

import json
from functools import partial

import pytest

from relevo.cli.jobs import jobs
from relevo.cli.message_fields import task_of
from relevo.drivers.contract import NewJob, State
from relevo.errors import DriverUnavailableError
from relevo.operations import cancel
from relevo.store import history, outcomes
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending
from tests.support.workers import payload_of


@pytest.fixture
def delete(run):
    return partial(run.func, jobs, "delete")


@pytest.fixture
def run(run):
    return partial(run, jobs, "cancel")


def message(id_):
    """A job whose result is kept."""
    return payload_of("images.process", id_, [7], "default").replace(
        '"ignore_result": true', '"ignore_result": false'
    )


@pytest.fixture
def put(driver):
    def put(*ids, **more):
        driver.put([NewJob("default", message(id_), id_, **more) for id_ in ids])

    return put


@pytest.fixture
def nobody_answers(monkeypatch, app):
    """The messages to the workers, of which none answers."""
    told = []

    def broadcast(command, arguments, **_options):
        told.append((command, arguments))
        return []

    monkeypatch.setattr(app.control, "broadcast", broadcast)
    return told


def test_waiting_jobs_leave_the_broker_and_are_recorded(run, put, driver, store, app):
    put("a", "b")
    put("later", available_at=driver.now() + 600)
    result = run("a", "later", "--yes")
    assert result.output == "2 jobs cancelled before they ran.\n"
    assert [view.id for view in driver.scan()[0]] == ["b"]
    ended = history.find(store, "later")
    assert (ended.state, ended.attempts, ended.message) == (Ended.CANCELLED, 0, "cancelled")
    assert app.AsyncResult("a").state == "REVOKED"


def test_it_asks_and_the_answer_no_changes_nothing(run, put, driver):
    put("a", "b")
    refused = run("--queue", "default", typed="n\n")
    assert refused.exit_code == 1
    assert "Cancel 2 jobs (0 of them reserved by a worker)?" in refused.stderr
    assert driver.sizes("default").pending == 2


def test_reserved_jobs_leave_the_broker_too(run, put, driver, store, nobody_answers):
    put("a")
    (held,) = driver.reserve(["default"], 1, 60, "worker")
    result = run("a", "--terminate", "--yes", "--json")
    assert json.loads(result.stdout)["running"] == ["a"]
    assert nobody_answers == [("cancel_jobs", {"ids": ["a"], "terminate": True})]
    assert driver.release([held.lease], 0, payload="{}") == 0, "it can't come back"
    assert history.find(store, "a").state is Ended.CANCELLED


def test_a_job_that_has_ended_meanwhile_has_not_been_cancelled(
    run, put, driver, store, nobody_answers
):
    put("a")
    driver.reserve(["default"], 1, 60, "worker")
    done = EndedJob(
        "a", "images.process", "database", "default", Ended.COMPLETED, 1, driver.now() + 1
    )
    outcomes.write(store, [Ending(done)])  # recorded, and not acked yet
    run("a", "--yes")
    assert history.find(store, "a").state is Ended.COMPLETED


def test_an_unknown_id_is_named_and_the_others_are_cancelled(run, put, driver):
    put("a")
    result = run("a", "nobody", "--yes")
    assert result.exit_code == 1
    assert "there is no job nobody in the broker" in result.stderr
    assert driver.scan()[0] == []


def test_without_a_store_every_job_stays_where_it_was(app, driver, store, put, monkeypatch):
    def away(*_arguments):
        raise DriverUnavailableError

    put("a", priority=4)
    before = driver.find(["a"])
    monkeypatch.setattr(outcomes, "write", away)
    with pytest.raises(DriverUnavailableError):
        cancel.cancel(app, driver, store, ["a"])
    (after,) = driver.find(["a"])
    assert (after.payload, after.priority, after.state) == (before[0].payload, 4, State.PENDING)


def test_jobs_of_a_cancel_command_that_died_come_back_with_their_batch(
    app, driver, store, monkeypatch
):
    @app.task(name="shop.half", shared=False)
    def half(number): ...

    def dies(*_arguments, **_named):
        raise SystemExit

    # Given a command that dies while it holds the jobs, before their end is recorded
    batch = app.batch([half.s(1), half.s(2)]).dispatch()
    ids = [f"{batch.id}.0", f"{batch.id}.1"]
    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "write", dies)
        patch.setattr(driver, "release", dies)
        patch.setattr(cancel, "HOLD_SECONDS", 0.001)
        with pytest.raises(SystemExit):
            cancel.cancel(app, driver, store, ids)

    # When its lease has ended and they are cancelled again, I expect their batch to have counted
    # them once
    driver.rescue()
    assert [(job.state, job.attempts) for job in driver.find(ids)] == [(State.PENDING, 0)] * 2
    assert len(cancel.cancel(app, driver, store, ids).withdrawn) == 2
    assert (batch.refresh().dropped, batch.finished) == (2, True)


def test_a_malformed_message_can_be_cancelled(run, driver, store):
    driver.put(
        [
            NewJob("default", payload, f"job-{at}")
            for at, payload in enumerate(["", "[]", '{"body": "[1]"}'])
        ]
    )
    assert run("--queue", "default", "--yes").exit_code == 0
    assert driver.scan()[0] == []
    assert history.find(store, "job-0").task == "?"


def test_many_jobs_are_cancelled_in_portions(run, put, driver):
    put(*(f"job-{number}" for number in range(1200)))
    assert (
        run("--task", "images.process", "--yes").output == "1200 jobs cancelled before they ran.\n"
    )
    assert driver.queues() == []


def test_a_batch_counts_its_cancelled_members_and_finishes(run, app, driver):
    @app.task(name="shop.work", shared=False)
    def work(number): ...

    @app.task(name="shop.say", shared=False)
    def say(batch): ...

    batch = app.batch([work.s(number) for number in range(3)]).finally_(say.s()).dispatch()
    run("--task", "shop.work", "--yes")
    assert (batch.refresh().dropped, batch.pending, batch.finished) == (3, 0, True)
    assert [view.id for view in driver.scan()[0] if task_of(view.payload) == "shop.say"], (
        "its callback is sent"
    )


def test_a_deleted_member_of_a_batch_counts_as_cancelled(delete, app):
    @app.task(name="shop.part", shared=False)
    def part(number): ...

    batch = app.batch([part.s(1), part.s(2)]).dispatch()
    assert delete(f"{batch.id}.0", "--yes").exit_code == 0
    assert (batch.refresh().dropped, batch.finished) == (1, False)
    assert delete(f"{batch.id}.1", "--yes").exit_code == 0
    assert (batch.refresh().dropped, batch.finished) == (2, True)


def test_a_unique_job_that_could_not_be_cancelled_keeps_its_key(run, app, driver, monkeypatch):
    @app.task(name="shop.one", shared=False, unique_by=[])
    def one(): ...

    first = one.dispatch()

    def away(*_given):
        raise DriverUnavailableError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "write", away)
        assert run(first.id, "--yes").exit_code == 1
    assert [job.id for job in driver.find([first.id])] == [first.id]
    assert one.dispatch().is_duplicate
