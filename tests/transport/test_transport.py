"""The kombu transport's loop and its events, on a SQLite file."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from celery import Celery
from kombu import Connection, Consumer, Exchange, Producer, Queue

from relevo.drivers.database.notifier import SqliteSubscription
from relevo.transport import channel, fetcher, registration, transport, work_limits
from relevo.worker import event_dispatcher
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    registration.register_transport()
    with Connection(f"sqlite:///{tmp_path}/relevo.db") as connection:
        connection.connect()
        yield connection
        connection.transport.driver.close()


@pytest.mark.parametrize(("every", "looks"), [(0.0, True), (1e9, False)])
def test_a_mailbox_is_kept_open_while_nothing_happens(connection, monkeypatch, every, looks):
    """A worker that had heard nothing for ten seconds was deaf to remote control: its mailbox had
    been closed.
    """
    monkeypatch.setattr(transport, "MAIL_EVERY", every)
    monkeypatch.setattr(SqliteSubscription, "poll", lambda _: False)
    read = []
    monkeypatch.setattr(
        type(connection.transport.driver), "receive", lambda _, mailbox: read.append(mailbox) or []
    )
    mailbox = Queue("control", Exchange("pidbox", "fanout"), expires=10, auto_delete=True)
    with Consumer(connection, [mailbox], no_ack=True):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.001)
    assert (len(read) > 1) == looks


def test_a_stopping_worker_lets_the_other_workers_of_its_process_run(connection, monkeypatch):
    turns = []
    monkeypatch.setattr(work_limits, "stop_asked", lambda: True)
    monkeypatch.setattr(transport.time, "sleep", turns.append)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=60)
    assert turns == [transport.YIELD]


@pytest.mark.parametrize("parked", [1, fetcher.MOST + 1])
def test_a_worker_that_parks_the_last_job_waits_again(connection, parked):
    """It went round and round instead, deaf to the subscription, and took no job any more."""
    # Given a worker that hears of jobs of which none may start
    driver, jobs, started = connection.transport.driver, Queue("jobs", durable=True), []
    driver.suspend("task:mail")
    with Consumer(
        connection, [jobs], callbacks=[lambda _body, message: started.append(message)]
    ) as consumer:
        consumer.qos(prefetch_count=2)
        with Connection(connection.as_uri()) as client:
            for task in ["mail"] * parked:
                Producer(client).publish({}, routing_key="jobs", headers={"task": task})
            eventually(lambda: passed(connection) and driver.parked("task:mail") == parked)

            # When one comes that may, I expect it to be started
            Producer(client).publish({}, routing_key="jobs", headers={"task": "other"})
            eventually(lambda: passed(connection) and started)
    assert [message.headers["task"] for message in started] == ["other"]


def test_a_consumer_that_waits_in_short_steps_looks_when_the_subscription_is_silent(
    connection, monkeypatch
):
    """It was deaf as long as its time-out was shorter than its interval."""
    monkeypatch.setattr(SqliteSubscription, "fileno", lambda _: None)
    started = []
    with Consumer(
        connection, [Queue("jobs")], callbacks=[lambda _body, message: started.append(message)]
    ):
        for _ in range(20):  # it waits for longer and longer while nothing comes
            passed(connection)
        with Connection(connection.as_uri()) as client:
            Producer(client).publish({}, routing_key="jobs")
        eventually(lambda: passed(connection) and started)
    assert len(started) == 1


def test_prefetched_jobs_of_a_cancelled_queue_are_released(connection, monkeypatch):
    """It was held for as long as the worker lived, and never started."""
    monkeypatch.setattr(fetcher.Fetcher, "_ahead", lambda *_: 2)
    driver, queues, started = connection.transport.driver, [Queue("kept"), Queue("left")], []
    with Consumer(
        connection, queues, callbacks=[lambda _body, message: started.append(message)]
    ) as consumer:
        consumer.qos(prefetch_count=1)
        with Connection(connection.as_uri()) as client:
            for name in ("kept", "left", "left"):
                Producer(client).publish({}, routing_key=name)
        eventually(lambda: passed(connection) or started)
        assert driver.sizes("left").reserved == 2
        consumer.cancel_by_queue("left")
        assert (driver.sizes("left").pending, driver.sizes("left").reserved) == (2, 0)
        started[0].ack()
        eventually(lambda: passed(connection))
    assert [message.delivery_info["routing_key"] for message in started] == ["kept"]


def passed(connection: Connection) -> bool:
    """One round of a worker's loop. Returns whether it found nothing to do in it, and so waited."""
    try:
        connection.drain_events(timeout=0.001)
    except TimeoutError:
        return True
    return False


class TestEventsThatNobodyHears:
    @pytest.fixture
    def asked(self, connection, monkeypatch):
        """The routing keys the driver was asked about."""
        driver, asked = connection.transport.driver, []
        real = driver.broadcast
        monkeypatch.setattr(
            driver,
            "broadcast",
            lambda mail: asked.extend(m.routing_key for m in mail) or real(mail),
        )
        return asked

    def test_are_asked_about_once_and_for_each_kind(self, connection, asked):
        producer = Producer(connection)
        for key in (
            "task.started",
            "task.started",
            "worker.heartbeat",
            "task.started",
            "worker.heartbeat",
        ):
            producer.publish({}, exchange="celeryev", routing_key=key)
        assert asked == ["task.started", "worker.heartbeat"]

    def test_are_asked_about_again_after_a_while(self, connection, asked, monkeypatch):
        monkeypatch.setattr(channel, "UNHEARD", 0.0)
        for _ in range(3):
            Producer(connection).publish({}, exchange="celeryev", routing_key="task.started")
        assert len(asked) == 3

    def test_are_never_dropped_when_one_of_them_is_heard(self, connection, asked):
        mailbox = Queue(
            "ears",
            Exchange("celeryev", "topic"),
            routing_key="worker.#",
            expires=60,
            auto_delete=True,
        )
        heard = []
        with Consumer(
            connection,
            [mailbox],
            no_ack=True,
            callbacks=[lambda body, _message: heard.append(body)],
        ):
            for number in range(3):
                Producer(connection).publish(
                    number, exchange="celeryev", routing_key="task.started"
                )
                Producer(connection).publish(
                    number, exchange="celeryev", routing_key="worker.heartbeat"
                )
            connection.drain_events(timeout=LONG)
        assert heard == [0, 1, 2]

    def test_control_and_replies_are_asked_about_every_time(self, connection, asked):
        for _ in range(3):
            Producer(connection).publish({}, exchange="reply.celery.pidbox", routing_key="me")
            Producer(connection).publish({}, exchange="celery.pidbox", routing_key="")
        assert len(asked) == 6

    def test_are_not_even_made(self, connection, asked, monkeypatch):
        class App(Celery):
            events_cls = "relevo.worker.event_dispatcher:Events"

        made = []
        with App(set_as_current=False, broker=connection.as_uri()).events.Dispatcher(
            connection
        ) as dispatcher:
            monkeypatch.setattr(
                dispatcher, "_prepare_event", lambda *a, **_: made.append(a[0]) or {}
            )
            for kind in ("task-sent", "task-sent", "task-failed", "task-sent"):
                dispatcher.send(kind)
        assert made == ["task-sent", "task-failed"]
        assert "task.sent" in asked


class TestEventsOfAWorker:
    """Celery's worker says how they are grouped: not at all on our transport, which has no event
    loop.
    """

    @pytest.fixture
    def dispatcher(self, connection, monkeypatch):
        class App(Celery):
            events_cls = "relevo.worker.event_dispatcher:Events"

        monkeypatch.setattr(event_dispatcher, "GROUP_SECONDS", 600.0)
        app = App(set_as_current=False, broker=connection.as_uri())
        with app.events.Dispatcher(
            connection, buffer_group=None, on_send_buffered=None
        ) as dispatcher:
            yield dispatcher

    @pytest.fixture
    def heard(self, connection):
        mailbox = Queue(
            "ears", Exchange("celeryev", "topic"), routing_key="#", expires=60, auto_delete=True
        )
        heard = []
        with Consumer(
            connection,
            [mailbox],
            no_ack=True,
            callbacks=[lambda body, _message: heard.append(body)],
        ):
            yield heard

    def test_of_jobs_go_in_groups_in_their_order_and_of_workers_at_once(
        self, connection, dispatcher, heard
    ):
        for kind in ("task-received", "task-started", "worker-heartbeat", "task-succeeded"):
            dispatcher.send(kind)
        connection.drain_events(timeout=LONG)
        assert [event["type"] for event in heard] == ["worker-heartbeat"]
        dispatcher._send_group()
        connection.drain_events(timeout=LONG)
        assert [event["type"] for event in heard[1]] == [
            "task-received",
            "task-started",
            "task-succeeded",
        ]

    def test_do_not_wait_for_others_when_the_worker_is_to_stop(
        self, connection, dispatcher, heard, monkeypatch
    ):
        monkeypatch.setattr(event_dispatcher.state, "should_stop", 0)
        dispatcher.send("task-succeeded")
        (sent,) = connection.transport.driver.receive("ears")
        assert "task-succeeded" in sent.payload

    def test_one_group_waits_at_a_time(self, dispatcher, heard, monkeypatch):
        timers = []
        monkeypatch.setattr(
            event_dispatcher.threading,
            "Timer",
            lambda *a: timers.append(a) or SimpleNamespace(start=int),
        )
        for _ in range(3):
            dispatcher.send("task-started")
        assert len(timers) == 1
        dispatcher._send_group()
        dispatcher.send("task-started")
        assert len(timers) == 2
