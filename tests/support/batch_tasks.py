"""The tasks that the tests of batches and chains dispatch, and a worker for them in this process.

Each task notes its calls in `calls`. `wait` waits for `gate`; `work` with `fails=True` raises until
`mended` is set.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

import celery
from celery.contrib.testing.worker import start_worker

from tests.support.waits import LONG, eventually

calls: list[tuple] = []
gate, mended = threading.Event(), threading.Event()


def define_tasks(app):
    @app.task(name="shop.work", shared=False)
    def work(number, fails=False):
        calls.append(("work", number))
        if fails and not mended.is_set():
            raise ValueError(number)

    @app.task(name="shop.say", shared=False)
    def say(batch, what="then"):
        calls.append((what, batch))

    @app.task(name="shop.wait", shared=False)
    def wait(number):
        calls.append(("wait", number))
        assert gate.wait(LONG)

    @app.task(name="shop.more", shared=False, bind=True)
    def more(self, numbers):
        self.batch.add(work.s(number) for number in numbers)

    @app.task(name="shop.more_and_goes_on", shared=False, bind=True)
    def more_and_goes_on(self, numbers):
        self.batch.add([work.s(numbers[0])])
        raise self.replace(more.si(numbers[1:]))

    @app.task(name="shop.goes_on", shared=False, bind=True)
    def goes_on(self, how):
        one = work.si(1)
        raise self.replace(
            {"job": one, "chain": celery.chain(one, work.si(2)), "fails": work.si(1, fails=True)}[
                how
            ]
        )

    gate.clear()
    mended.clear()


@contextmanager
def working(app, concurrency=2):
    with start_worker(
        app,
        pool="threads",
        concurrency=concurrency,
        perform_ping_check=False,
        shutdown_timeout=LONG,
    ):
        yield


def task_of(app, name):
    return app.tasks[f"shop.{name}"]


def calls_of(kind):
    return [given for each, given in list(calls) if each == kind]


def finished(batch):
    eventually(lambda: batch.refresh().finished)
    return batch
