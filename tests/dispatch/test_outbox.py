"""Sending the outbox: nobody waits for a broker under a lock, and nobody's rows are overtaken."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.orm import Session

from relevo import clock
from relevo.database.engine import make_engine
from relevo.dispatch import delivery
from relevo.dispatch.delivery import delivery_of
from relevo.drivers.contract import State
from relevo.errors import DriverUnavailableError
from relevo.store import outbox
from relevo.store.outbox import Sending
from tests.support.batch_tasks import task_of
from tests.support.waits import LONG

pytestmark = pytest.mark.parametrize("batch_app", ["redis"], indirect=True)


@pytest.fixture
def way(batch_app):
    return delivery_of(batch_app)


def dispatch(app, number):
    """Dispatch a job in a session of its own, and commit."""
    engine = make_engine(app.settings.database_url)
    with Session(engine) as session:
        task_of(app, "work").dispatch(number, session=session)
        session.commit()
    engine.dispose()


def waiting(app):
    """The numbers of the jobs in the broker, in their order."""
    with app.connection_for_write() as connection:
        views = connection.default_channel.driver.peek(app.conf.task_default_queue, State.PENDING)
    return [int(view.payload.partition('"body":"[[')[2].partition("]")[0]) for view in views]


class FrozenBroker:
    """Puts that wait until the test lets them go on."""

    def __init__(self, way, monkeypatch):
        self.put, self.reached, self.thawed = way.put, threading.Event(), threading.Event()
        self.puts = 0
        monkeypatch.setattr(way, "put", self.wait_and_put)

    def wait_and_put(self, *args):
        self.puts += 1
        self.reached.set()
        assert self.thawed.wait(LONG)
        self.put(*args)


def test_a_frozen_broker_holds_up_one_caller_and_no_writer(batch_app, way, monkeypatch):
    # Given a caller that waits for the broker
    frozen = FrozenBroker(way, monkeypatch)
    first = threading.Thread(target=dispatch, args=(batch_app, 1))
    first.start()
    assert frozen.reached.wait(LONG)

    # When others write to the same database, and dispatch, I expect them not to wait
    way.store.write(lambda connection: outbox.delete_delivered(connection, ["other"]))
    dispatch(batch_app, 2)
    dispatch(batch_app, 3)
    assert way.forward_all() == 0
    assert frozen.puts == 1

    # and the first caller to send what they have left, in order
    frozen.thawed.set()
    first.join(LONG)
    assert waiting(batch_app) == [1, 2, 3]
    assert outbox.status(way.store) == []


def test_a_broker_that_is_away_is_tried_by_one_caller(batch_app, way, monkeypatch):
    tried = []

    def away(*_args):
        tried.append(1)
        raise DriverUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(way, "put", away)
        for number in range(4):
            dispatch(batch_app, number)
        assert len(tried) == 1

        # The relay tries each time it looks.
        with pytest.raises(DriverUnavailableError):
            way.forward_all()
        assert len(tried) == 2
    assert way.forward_all() == 4
    dispatch(batch_app, 4)
    assert waiting(batch_app) == [0, 1, 2, 3, 4]


def test_a_caller_tries_again_after_a_while(batch_app, way, monkeypatch):
    away = lambda *_: (_ for _ in ()).throw(DriverUnavailableError("away"))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(way, "put", away)
        patch.setattr(delivery, "AWAY_SECONDS", 0.0)
        dispatch(batch_app, 1)
    dispatch(batch_app, 2)
    assert waiting(batch_app) == [1, 2]


@pytest.mark.parametrize("wrong", [0.0, 1e6], ids=["its claim ends", "its clock was wrong"])
def test_the_rows_of_a_sender_that_died_are_sent(batch_app, way, monkeypatch, wrong):
    job = Sending(connection="redis", queue="q", uuid="job", payload='{"headers":{}}')
    way.store.write(lambda connection: outbox.add(connection, [job]))
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + wrong)
    assert len(outbox.claim(way.store, "redis").rows) == 1
    monkeypatch.setattr(clock, "now", lambda: now)
    if not wrong:
        assert way.forward("redis") == 0
        monkeypatch.setattr(clock, "now", lambda: now + outbox.CLAIM_SECONDS)
    assert way.forward("redis") == 1


def test_a_caller_leaves_a_long_backlog_to_the_relay(batch_app, way, monkeypatch):
    monkeypatch.setattr(outbox, "PAGE", 2)
    monkeypatch.setattr(delivery, "CALLERS_PAGES", 2)
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "CALLERS_PAGES", 0)
        for number in range(6):
            dispatch(batch_app, number)
    dispatch(batch_app, 6)
    assert waiting(batch_app) == [0, 1, 2, 3]
    assert way.forward_all() == 3
    assert waiting(batch_app) == [0, 1, 2, 3, 4, 5, 6]
