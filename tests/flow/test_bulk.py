"""Many jobs in one step: `Producer.batch()` puts them together, all or none."""

from __future__ import annotations

import pytest
from celery import Celery

from relevo import drivers
from relevo.errors import DriverError
from relevo.transport import registration


@pytest.fixture
def app(tmp_path):
    registration.register_transport()
    app = Celery("shop", broker=f"sqlite:///{tmp_path}/jobs.sqlite3")

    @app.task(name="noop", shared=False)
    def noop(number): ...

    return app


@pytest.fixture
def driver(app):
    return drivers.driver_for(app.conf.broker_url, {}, app.conf.broker_use_ssl)


def test_a_block_puts_its_jobs_together_at_its_end(app, driver, monkeypatch):
    calls = []
    put = driver.put
    monkeypatch.setattr(driver, "put", lambda jobs: (calls.append(len(jobs)), put(jobs))[1])
    with app.producer_or_acquire() as producer, producer.batch():
        for number in range(250):
            app.tasks["noop"].apply_async((number,), producer=producer)
        assert calls == []
    assert calls == [250]
    assert driver.sizes("celery").pending == 250


def test_a_large_block_is_put_in_portions(app, driver):
    with app.producer_or_acquire() as producer, producer.batch(max_size=100):
        for number in range(250):
            app.tasks["noop"].apply_async((number,), producer=producer)
        assert driver.sizes("celery").pending == 200
    assert driver.sizes("celery").pending == 250


def test_a_block_that_fails_puts_nothing(app, driver):
    with pytest.raises(ZeroDivisionError), app.producer_or_acquire() as producer, producer.batch():  # noqa: PT012
        app.tasks["noop"].apply_async((1,), producer=producer)
        raise ZeroDivisionError
    assert driver.sizes("celery").pending == 0


def test_a_refused_put_reaches_the_caller(app, driver, monkeypatch):
    def refuse(jobs):
        raise DriverError("the disk is full")

    monkeypatch.setattr(driver, "put", refuse)
    with (
        pytest.raises(DriverError, match="disk is full"),
        app.producer_or_acquire() as producer,
        producer.batch(),
    ):
        app.tasks["noop"].apply_async((1,), producer=producer)
