"""What a worker on SQLite records of its ended jobs, and what their acks wait for."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from relevo import clock
from relevo.store import failed, history, metrics, schedules
from relevo.store.history import Ended
from relevo.store.schedules import Run
from relevo.store.tables import runs
from relevo.transport.context import current
from tests.support.driver_jobs import jobs_in
from tests.support.waits import eventually


@pytest.fixture
def found(store):
    """Wait for the end of a job to be recorded."""

    def found(result):
        eventually(lambda: history.find(store, result.id))
        return history.find(store, result.id)

    return found


def test_a_completed_job_is_recorded_with_how_long_it_waited_and_ran(
    app,
    worker,
    found,
    driver,
    store,
):
    @app.task(name="shop.add", shared=False, tags=lambda x, **_: [f"x:{x}"])
    def add(x, y):
        return x + y

    with worker():
        job = found(add.delay(1, y=2))
        eventually(lambda: not jobs_in(driver))
    assert (job.task, job.queue, job.connection, job.state) == (
        "shop.add",
        "default",
        "database",
        Ended.COMPLETED,
    )
    assert (job.attempts, job.tags, job.arguments) == (1, ("x:1",), "(1,) {'y': 2}")
    assert job.waited >= 0
    assert job.ran >= 0
    [point] = metrics.read(store, metrics.TASK, 0, 10**11)
    assert (point.ended, sum(point.waited.values()), sum(point.ran.values())) == (
        {Ended.COMPLETED: 1},
        1,
        1,
    )


def test_the_wait_counts_from_when_the_job_could_run(app, worker, found):
    @app.task(name="shop.later", shared=False, bind=True, tries=2, backoff=0.3)
    def later(self):
        if self.attempt == 1:
            raise ValueError

    begun = clock.now()
    with worker():
        job = found(later.apply_async(countdown=0.3))
    assert (job.state, job.attempts) == (Ended.COMPLETED, 2)
    assert (
        job.waited < clock.now() - begun - 0.6
    )  # however slow this machine is: without the countdown and the backoff


@pytest.mark.parametrize("acks_late", [True, False])
def test_failed_and_cancelled_jobs_are_there_too(app, worker, found, acks_late):
    @app.task(name="shop.fails", shared=False, acks_late=acks_late)
    def fails():
        raise ValueError("no")

    @app.task(name="shop.late", shared=False, acks_late=acks_late)
    def late(): ...

    with worker():
        jobs = [
            found(result) for result in (fails.delay(), late.apply_async(expires=-1), late.delay())
        ]
    assert [job.state for job in jobs] == [Ended.FAILED, Ended.CANCELLED, Ended.COMPLETED]
    assert [job.message for job in jobs] == ["ValueError: no", "expired", ""]


def test_history_of_failed_jobs_only_counts_the_others(app, worker, found, store, driver):
    object.__setattr__(app.settings, "history", "failed")

    @app.task(name="shop.divide", shared=False)
    def divide(x):
        return 1 / x

    with worker():
        done = divide.delay(1)
        assert found(divide.delay(0)).state is Ended.FAILED
        eventually(
            lambda: (
                sum(
                    sum(each.ended.values())
                    for each in metrics.read(store, metrics.TASK, 0, 10**11)
                )
                == 2
            )
        )
        eventually(lambda: not jobs_in(driver))
    assert history.find(store, done.id) is None


def test_without_history_there_is_still_the_failed_store(app, worker, store, driver):
    object.__setattr__(app.settings, "history", "none")

    @app.task(name="shop.divide", shared=False)
    def divide(x):
        return 1 / x

    with worker():
        divide.delay(1)
        divide.delay(0)
        eventually(lambda: failed.count(store) == 1)
        eventually(lambda: not jobs_in(driver))
    assert history.page(store, Ended.FAILED) == history.page(store, Ended.COMPLETED) == []
    assert metrics.read(store, metrics.TASK, 0, 10**11) == []


def test_a_warm_stop_records_what_has_ended(app, worker, store, driver):
    held = threading.Event()

    @app.task(name="shop.add", shared=False)
    def add(x): ...

    with worker():
        recorder, write = current().recorder, current().recorder.write
        recorder.write = lambda records: (held.wait(), write(records))
        results = [add.delay(number) for number in range(5)]
        eventually(lambda: len(recorder._waiting) == 5)
        assert jobs_in(driver) == 5
        held.set()
        current().stop_recording()
    assert sorted(job.uuid for job in history.page(store, Ended.COMPLETED)) == sorted(
        each.id for each in results
    )


def test_a_run_of_the_schedule_whose_job_is_replaced_ends_as_what_goes_on_in_its_place(
    app,
    worker,
    store,
):
    dues = []

    @app.task(name="shop.goes_on", shared=False, bind=True)
    def goes_on(self):
        raise self.replace(self.app.signature("shop.ends"))

    @app.task(name="shop.ends", shared=False, bind=True)
    def ends(self):
        dues.append(self.request.schedule_due)
        raise ValueError("no")

    def state():
        return store.read(lambda connection: connection.execute(select(runs.c.state)).scalar())

    run = Run("noon", "a tick", 7.0, 7.0, "the-run")
    store.write(lambda connection: schedules.record(connection, run))
    goes_on.apply_async(task_id=run.job_id, headers={"schedule_entry": "noon", "schedule_due": 7.0})
    with worker():
        eventually(state)
        assert (state(), dues) == ("failed", [7.0])
