"""A Celery app with our Task class, and a worker for it in this process or in one of its own."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from celery import Celery
from kombu import Queue


class App(Celery):
    """Keeps its tasks to itself (Celery would define them in every app of the process) and tells
    equal names apart.
    """

    numbers = itertools.count(1)

    def task(self, *args, **options):
        return super().task(
            *args, **{"shared": False, "name": f"task-{next(self.numbers)}", **options}
        )


def make_app(**config) -> Celery:
    """An app on a broker in memory. Its results are kept, so that a test can wait for one."""
    return App(
        "shop",
        broker="memory://",
        backend="cache+memory://",
        task_cls="relevo.task:Task",
        set_as_current=False,
        changes={
            # kombu's memory is one for the whole process
            "task_default_queue": f"default-{uuid.uuid4()}",
            "task_acks_late": True,
            "worker_prefetch_multiplier": 1,
            "broker_transport_options": {"polling_interval": 0.001},
            **config,
        },
    )


@pytest.fixture
def app() -> Celery:
    return make_app()


@pytest.fixture
def shop() -> Celery:
    """An app that declares its queues."""
    return make_app(task_queues=[Queue("default"), Queue("high")], task_default_queue="default")


@pytest.fixture
def app_with_defaults() -> Callable[..., Celery]:
    """An app of a project with settings of its own, as `create_app` makes it."""

    def make(tries: int, waits: tuple[float, ...] = ()) -> Celery:
        app = make_app()
        app.settings = SimpleNamespace(queue_max_tries=tries, queue_backoff=waits)
        return app

    return make


@pytest.fixture
def sent(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SimpleNamespace]]:
    """What is handed to Celery to be published."""
    messages: list[SimpleNamespace] = []

    def send_task(name, args=None, kwargs=None, **options):
        messages.append(SimpleNamespace(name=name, args=args, kwargs=kwargs, **options))
        return app.AsyncResult(str(len(messages)))

    monkeypatch.setattr(app, "send_task", send_task)
    return messages
