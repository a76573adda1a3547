"""Results in Redis: a dispatch doesn't subscribe to its result, and a caller still gets it."""

from __future__ import annotations

import threading

import pytest
from celery import group

from relevo import config
from relevo.app import create_app
from tests.support.waits import LONG


def work(): ...


@pytest.fixture
def app_with(tmp_path):
    """Apps whose jobs are in a SQLite file, and whose results in a Redis."""
    apps = []

    def app_with(redis_url):
        said = {
            "QUEUE_CONNECTION": "database",
            "DATABASE_URL": f"sqlite:///{tmp_path}/relevo.sqlite3",
            "RELEVO_VAR_DIR": str(tmp_path),
            "QUEUE_RESULTS": "redis",
            "REDIS_URL": redis_url,
        }
        app = create_app("results", config.load(said, None))
        app.task(work, name="work", shared=False)
        apps.append(app)
        return app

    yield app_with
    for app in apps:
        if app.backend.result_consumer._pubsub is not None:
            app.backend.result_consumer.stop()
        app.close()


@pytest.fixture
def app(app_with, redis_url):
    return app_with(redis_url)


def done(app, result, value):
    """A worker has run the job."""
    app.backend.store_result(result.id, value, "SUCCESS")


def test_a_dispatch_needs_no_redis_of_results(app_with):
    app = app_with("redis://127.0.0.1:1/0")
    result = app.tasks["work"].delay()
    assert result.id
    assert app.backend.result_consumer._pubsub is None
    del result  # nor does Python, when it forgets it


@pytest.mark.parametrize("when", ["before", "while it is waited for"])
def test_a_caller_gets_a_result_that_comes_before_or_after_it_waits(app, when):
    result = app.tasks["work"].delay()
    if when == "before":
        done(app, result, 7)
    else:
        subscribed, consumer = app.backend.result_consumer.consume_from, app.backend.result_consumer

        def listens(task_id):
            subscribed(task_id)
            threading.Thread(target=done, args=(app, result, 7)).start()

        consumer.consume_from = listens
    assert result.get(timeout=LONG) == 7


@pytest.mark.parametrize("when", ["before", "afterwards"])
def test_a_callback_is_called_for_a_result_that_comes_before_or_after(app, when):
    called, result = [], app.tasks["work"].delay()
    if when == "before":
        done(app, result, 7)
    result.then(lambda ready: called.append(ready.result))
    if when != "before":
        assert called == []
        done(app, result, 7)
        assert result.get(timeout=LONG) == 7
    assert called == [7]


def test_a_group_gets_all_of_its_results(app):
    result = group(app.tasks["work"].s() for _ in range(3)).apply_async()
    for number, each in enumerate(result.results):
        done(app, each, number)
    assert result.get(timeout=LONG) == [0, 1, 2]
