"""A retry on our own drivers: the reserved job is released with changes, and nothing is
published.
"""

from __future__ import annotations

import pickle
import uuid
from contextlib import contextmanager

import pytest
from celery.contrib.testing.worker import start_worker

from relevo import drivers
from relevo.drivers.contract import State
from relevo.execution import requeue
from relevo.transport import registration
from tests.support.memory_app import App
from tests.support.waits import LONG, eventually


@pytest.fixture
def app():
    registration.register_transport()
    return App(
        "shop",
        broker=f"relevo://{uuid.uuid4()}",
        backend="cache+memory://",
        task_cls="relevo.task:Task",
        set_as_current=False,
        changes={
            "task_default_queue": "default",
            "task_acks_late": True,
            "worker_prefetch_multiplier": 1,
        },
    )


@pytest.fixture
def driver(app):
    return drivers.driver_for(app.conf.broker_url)


@pytest.fixture
def put(driver, monkeypatch):
    """The ids of all jobs that are put."""
    ids, real = [], driver.put

    def note(jobs):
        ids.extend(job.id for job in jobs)
        return real(jobs)

    monkeypatch.setattr(driver, "put", note)
    return ids


@pytest.fixture(params=["solo", "threads"])
def worker(app, request):
    @contextmanager
    def started():
        with start_worker(
            app, pool=request.param, concurrency=2, perform_ping_check=False, shutdown_timeout=LONG
        ) as worker:
            yield worker

    return started


def ends(result):
    result.get(timeout=LONG, propagate=False, interval=0.01)
    return result.state


def test_a_retry_publishes_nothing_and_counts_the_attempt(app, worker, put):
    attempts = []

    @app.task(bind=True, tries=3)
    def process(self, text):
        attempts.append((self.attempt, text, self.request.id))
        if self.attempt < 3:
            raise ValueError
        return "done"

    with worker():
        result = process.delay("año")
        assert ends(result) == "SUCCESS"
    assert attempts == [(1, "año", result.id), (2, "año", result.id), (3, "año", result.id)]
    assert put == [result.id]


def test_a_release_publishes_nothing_and_counts_no_attempt(app, worker, put):
    attempts = []

    @app.task(bind=True, tries=1)
    def process(self):
        attempts.append(self.attempt)
        if len(attempts) < 4:
            self.release()

    with worker():
        result = process.delay()
        assert ends(result) == "SUCCESS"
    assert (attempts, put) == ([1, 1, 1, 1], [result.id])


def test_a_released_job_lets_the_others_go_first(app, worker):
    order = []

    @app.task(bind=True)
    def process(self, name):
        order.append(name)
        if order.count("first") < 2:
            self.release()

    results = [process.delay(name) for name in ("first", "second")]
    with worker():
        assert [ends(result) for result in results] == ["SUCCESS", "SUCCESS"]
    assert order.index("second") < len(order) - 1


def test_a_waiting_job_is_delayed_in_the_broker_with_its_count(app, driver, worker, put):
    @app.task(bind=True, tries=2, backoff=1000)
    def process(self):
        raise ValueError

    with worker():
        result = process.delay()
        eventually(lambda: driver.sizes("default").delayed)
    [view] = driver.peek("default", State.DELAYED)
    assert (view.id, view.attempts, put) == (result.id, 1, [result.id])
    assert 900 < view.available_at - driver.now() <= 1000


@pytest.mark.parametrize(
    "options", [{"autoretry_for": (ValueError,)}, {}], ids=["autoretry_for", "retry"]
)
def test_celerys_own_retry_is_one_step_too(app, worker, put, options):
    retries = []

    @app.task(bind=True, max_retries=2, default_retry_delay=0, **options)
    def process(self, **_):
        retries.append(self.request.retries)
        if options:
            raise ValueError("still")
        self.retry(exc=ValueError("still"))

    with worker():
        result = process.delay(n=1)
        assert ends(result) == "FAILURE"
    assert (retries, str(result.result), put) == ([0, 1, 2], "still", [result.id])


@pytest.mark.parametrize("options", [{"queue": "other"}, {"args": (2,)}, {"priority": 3}], ids=str)
def test_a_retry_that_asks_for_another_message_is_published(app, worker, put, options):
    numbers = []

    @app.task(bind=True, default_retry_delay=0)
    def process(self, number):
        numbers.append(number)
        if len(numbers) == 1:
            self.retry(**options)

    app.conf.task_queues = None
    with worker() as running:
        running.consumer.add_task_queue("other")
        result = process.delay(1)
        assert ends(result) == "SUCCESS"
    assert (numbers, put) == ([1, options.get("args", (1,))[0]], [result.id, result.id])


def test_a_task_that_acks_early_holds_nothing_so_it_is_published(app, worker, put):
    @app.task(bind=True, tries=2, acks_late=False)
    def process(self):
        if self.attempt == 1:
            raise ValueError

    with worker():
        result = process.delay()
        assert ends(result) == "SUCCESS"
    assert put == [result.id, result.id]


def test_a_unique_job_that_is_published_again_is_not_its_own_duplicate(app, worker, put):
    attempts = []

    @app.task(bind=True, acks_late=False, unique_by=["number"])
    def process(self, number):
        attempts.append(number)
        if len(attempts) == 1:
            self.release()  # its ack is still to be written

    with worker():
        result = process.delay(7)
        assert ends(result) == "SUCCESS"
    assert attempts == [7, 7]


def test_a_compressed_body_comes_back_whole(app, worker, put):
    @app.task(bind=True, tries=2)
    def process(self, text):
        if self.attempt == 1:
            raise ValueError
        return text

    with worker():
        result = process.apply_async(("ñ" * 1000,), compression="zlib")
        assert result.get(timeout=LONG, interval=0.01) == "ñ" * 1000
    assert put == [result.id]


def test_the_release_travels_from_a_child_to_its_parent():
    order = requeue.ReleaseRetry(None, ValueError("x"), 5, 5.0, 2, {"exceptions": 1})
    told = requeue.order_of(pickle.loads(pickle.dumps(order)))
    assert (told.seconds, told.retries, told.baton, str(told.exc)) == (
        5.0,
        2,
        {"exceptions": 1},
        "x",
    )
