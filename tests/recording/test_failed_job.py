"""Jobs that fail for good, in a worker on SQLite: recorded before their ack, and
retried by hand.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Ignore, Reject
from celery.worker import state
from celery.worker.control import Panel

from relevo.drivers import message_codec
from relevo.drivers.values import NewJob, State
from relevo.errors import DriverUnavailableError, OptionError
from relevo.operations import cancel, retry
from relevo.store import failed
from relevo.store.failed import EVERY_JOB, Filter
from relevo.transport.context import current
from tests.support.driver_jobs import jobs_in
from tests.support.waits import LONG, eventually


@pytest.fixture
def failures(store):
    """Wait until so many failed jobs are recorded."""

    def recorded(count=1):
        eventually(lambda: failed.count(store) >= count)
        return failed.page(store)

    return recorded


def test_a_failed_job_is_kept_with_everything_needed_to_retry_it(app, worker, failures, driver):
    @app.task(
        name="shop.process",
        shared=False,
        tries=2,
        backoff=0,
        tags=lambda number: [f"file:{number}"],
    )
    def process(number):
        raise ValueError(f"bad {number}")

    with worker():
        result = process.delay(7)
        [job] = failures()
    assert (job.uuid, job.task, job.queue, job.connection) == (
        result.id,
        "shop.process",
        "default",
        "database",
    )
    assert (job.exception, job.message, job.tags, job.attempts) == (
        "ValueError",
        "bad 7",
        ("file:7",),
        2,
    )
    assert [(each["attempt"], each["exception"], each["message"]) for each in job.errors] == [
        (1, "ValueError", "bad 7"),
        (2, "ValueError", "bad 7"),
    ]
    assert all("in process" in each["traceback"] for each in job.errors)
    assert job.failed_at >= job.errors[1]["at"] >= job.errors[0]["at"]
    assert json.loads(job.payload)["headers"]["id"] == result.id
    assert jobs_in(driver) == 0


def test_a_plain_task_that_failed_is_kept_too(app, worker, failures, driver):
    @app.task(
        name="shop.failing.plain", shared=False, bind=True, max_retries=1, default_retry_delay=0
    )
    def plain(self):
        self.retry(exc=KeyError("x"))

    with worker():
        plain.delay()
        [job] = failures()
    assert (job.exception, job.attempts, len(job.errors)) == ("KeyError", 2, 2)
    assert jobs_in(driver) == 0


def test_a_task_that_acks_early_is_recorded_all_the_same(app, worker, failures):
    @app.task(name="shop.early", shared=False, acks_late=False)
    def early():
        raise ValueError

    with worker():
        early.delay()
        [job] = failures()
    assert job.task == "shop.early"


def test_a_deadline_that_passed_is_a_failure(app, worker, failures):
    @app.task(name="shop.late", shared=False, retry_until=600)
    def late(): ...

    with worker():
        late.apply_async(headers={"relevo": {"deadline": 5.0}})
        [job] = failures()
    assert job.exception == "relevo.errors.DeadlineError"


def test_a_rejected_job_is_kept_and_an_ignored_one_is_not(app, worker, failures, driver):
    @app.task(name="shop.reject", shared=False)
    def reject(error):
        raise Reject("no") if error == "reject" else Ignore

    with worker():
        reject.delay("ignore")
        rejected = reject.delay("reject")
        [job] = failures()
    assert (job.uuid, job.exception) == (rejected.id, "celery.exceptions.Reject")
    assert driver.queues() == []


def test_a_job_that_can_not_be_run_is_kept_with_the_reason(app, worker, failures, driver):
    @app.task(name="email.send", shared=False)
    def send(): ...

    driver.put([NewJob("default", "no message", "unreadable")])
    app.send_task("emial.send", task_id="unknown", queue="default")
    with worker():
        jobs = {job.uuid: job for job in failures(2)}
    assert jobs["unknown"].exception == "relevo.errors.UnknownTaskError"
    assert jobs["unknown"].message == "no task named 'emial.send'; did you mean 'email.send'?"
    assert jobs["unknown"].task == "emial.send"
    assert jobs["unreadable"].exception == "relevo.errors.UndeliverableError"
    assert jobs["unreadable"].payload == "no message"
    assert driver.queues() == []


def test_a_job_is_not_acked_before_it_is_recorded(app, worker, driver, store, monkeypatch):
    """A store that is away: the job stays reserved, and when the worker ends it is there for
    another one.
    """
    tried = threading.Semaphore(0)

    def refuse(*_args):
        tried.release()
        raise DriverUnavailableError("gone")

    @app.task(name="shop.process", shared=False)
    def process():
        raise ValueError

    with worker():
        monkeypatch.setattr(current().recorder, "write", refuse)
        process.delay()
        assert tried.acquire(timeout=LONG)
        assert driver.sizes("default").reserved == 1
        current().stop_recording()
    assert failed.count(store) == 0
    assert driver.peek("default", State.RESERVED)[0].attempts == 1


@pytest.fixture
def process(app):
    @app.task(
        name="shop.process",
        shared=False,
        bind=True,
        tries=2,
        backoff=0,
        retry_until=600,
        tags=["t"],
    )
    def process(self, number):
        seen.append((self.attempt, self.request.headers["relevo"].get("origin")))
        if self.request.headers["relevo"].get("origin") is None or number < 0:
            raise ValueError

    seen = process.seen = []
    return process


def test_a_retried_job_has_a_fresh_count_and_knows_its_failed_job(
    app, worker, failures, driver, store, process
):
    with worker():
        result = process.delay(1)
        [job] = failures()
        assert retry.retry_failed(app, store, Filter(ids=[job.id])) == 1
        eventually(lambda: len(process.seen) == 3 and not jobs_in(driver))
    assert process.seen == [(1, None), (2, None), (1, job.id)]
    assert result.state == "SUCCESS"
    assert failed.page(store) == []
    assert failed.find(store, job.id).retried_at is not None


def test_a_job_that_fails_again_is_a_new_failed_job_and_not_retried_by_the_same_call(
    app, worker, failures, store, process
):
    with worker():
        process.delay(-1)
        [first] = failures()
        assert retry.retry_failed(app, store, EVERY_JOB) == 1
        [second] = failures()
    assert (second.origin, second.uuid, second.attempts) == (first.id, first.uuid, 2)
    assert len(second.errors) == 2


def test_two_concurrent_retries_send_the_job_once(app, store, driver, process):
    job = failed.FailedJob(
        uuid="a",
        queue="default",
        connection="database",
        payload="{}",
        exception="E",
        message="",
        failed_at=1.0,
    )
    store.write(lambda connection: failed.record(connection, [job]))
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda _: retry.retry_failed(app, store, EVERY_JOB), range(8)))
    assert sum(sent) == 1
    assert driver.sizes("default").pending == 1


def test_a_retry_with_an_unreachable_broker_leaves_the_failed_job(
    app, store, driver, process, monkeypatch
):
    job = failed.FailedJob(
        uuid="a",
        queue="default",
        connection="database",
        payload="no",
        exception="E",
        message="",
        failed_at=1.0,
    )
    store.write(lambda connection: failed.record(connection, [job]))

    def refuse(_jobs):
        raise DriverUnavailableError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(driver, "put", refuse)
        with pytest.raises(DriverUnavailableError):
            retry.retry_failed(app, store, EVERY_JOB)
    assert retry.retry_failed(app, store, Filter(queue="default")) == 1
    assert driver.peek("default", State.PENDING)[0].payload == "no"


def test_the_result_of_a_job_cancelled_during_its_run_is_that_there_is_no_next_attempt(
    app, driver, store
):
    """Its attempt failed after that and wrote RETRY over the REVOKED: nothing ever came."""
    runs, goes = threading.Event(), threading.Event()

    @app.task(name="fails", tries=3)
    def fails():
        runs.set()
        goes.wait(LONG)
        raise ValueError

    @app.task(name="next")
    def following(): ...

    with start_worker(
        app, pool="threads", concurrency=1, perform_ping_check=False, shutdown_timeout=LONG
    ):
        job = fails.delay()
        assert runs.wait(LONG)
        assert [each.id for each in cancel.cancel(app, driver, store, [job.id]).running] == [job.id]
        goes.set()
        following.delay().get(timeout=LONG, disable_sync_subtasks=False)
        eventually(lambda: not jobs_in(driver))
    assert (job.state, str(job.result)) == ("REVOKED", "cancelled")


def test_celerys_revoke_takes_a_job_back_from_the_pipe(app, monkeypatch):
    """It was started all the same: Celery looks at a job when it is handed to the pool."""
    recalled = []
    monkeypatch.setattr(
        current(), "pool", SimpleNamespace(recall_unstarted=lambda: recalled.append(True))
    )
    from relevo.worker import remote_control  # noqa: F401, PLC0415  as a worker does when it starts

    Panel.data["revoke"](SimpleNamespace(app=app), "unwanted")
    state.revoked.discard("unwanted")
    assert recalled == [True]


def test_a_pool_that_runs_a_job_where_it_is_handed_over_has_one_place_and_reserves_none_ahead(
    app, driver
):
    """With more, a solo worker kept jobs from other workers while it ran one."""
    seen = []

    @app.task(name="looks")
    def looks():
        seen.append(driver.sizes("default").pending)

    with app.producer_or_acquire() as producer, producer.batch():
        for _ in range(9):
            looks.apply_async(producer=producer)
    with start_worker(
        app, pool="solo", concurrency=4, perform_ping_check=False, shutdown_timeout=LONG
    ):
        eventually(lambda: len(seen) == 9)
    assert seen == [8, 7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("step", ["release", "repack"])
def test_a_job_that_cant_be_released_changed_has_failed_with_the_reason(
    app, worker, failures, driver, monkeypatch, step
):
    # Given a broker that refuses what goes back, or a job that can't be written again
    release = type(driver).release

    def refuse_changed(self, leases, delay=0, payload=None, attempts=None):
        if payload is not None:
            raise OptionError("expected payload to be another")
        return release(self, leases, delay, payload, attempts)

    def refuse(*_):
        raise TypeError("no such header")

    if step == "release":
        monkeypatch.setattr(type(driver), "release", refuse_changed)
    else:
        monkeypatch.setattr(message_codec, "repack", refuse)

    @app.task(name="shop.refused", shared=False, tries=5, backoff=0)
    def refused():
        raise ValueError("the attempt's")

    @app.task(name="shop.other", shared=False)
    def other():
        return "done"

    # When an attempt goes wrong
    with worker():
        refused.delay()
        [job] = failures()

        # I expect the job to have failed, with the reason, and the worker to go on
        assert job.exception == "relevo.errors.UndeliverableError"
        assert "it can't be released" in job.message
        assert other.delay().get(timeout=LONG) == "done"
    if step == "release":  # the errors of its attempts are in what was refused
        assert job.errors[0]["message"] == "the attempt's"
    eventually(lambda: jobs_in(driver) == 0)
