"""An app whose broker and result backend can't be reached: sending a job for real is an error."""

from __future__ import annotations

import pytest
from celery import Celery
from kombu import Queue

from relevo.testing import fake
from tests.support.unreachable_app import make_app


@pytest.fixture
def app() -> Celery:
    queues = [Queue("high"), Queue("default"), Queue("low")]
    app = make_app(task_queues=queues, task_default_queue="default")

    @app.task(
        name="shop.resize",
        shared=False,
        queue="high",
        tags=lambda file_id, **_: [f"file:{file_id}"],
    )
    def process(file_id, size=None):
        return f"{file_id}:{size}"

    @app.task(name="shop.mail", shared=False)
    def send(to): ...

    @app.task(name="math.add", shared=False)
    def add(x, y):
        return x + y

    @app.task(name="math.total", shared=False)
    def total(numbers):
        return sum(numbers)

    return app


@pytest.fixture
def process(app):
    return app.tasks["shop.resize"]


@pytest.fixture
def send(app):
    return app.tasks["shop.mail"]


@pytest.fixture
def add(app):
    return app.tasks["math.add"]


@pytest.fixture
def total(app):
    return app.tasks["math.total"]


@pytest.fixture
def queue(app):
    with fake(app=app) as queue:
        yield queue
