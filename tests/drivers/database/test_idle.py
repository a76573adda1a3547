"""The statements of an idle worker: one or two for each look, and no transaction."""

from __future__ import annotations

from uuid import uuid4

import pytest

from relevo.drivers.contract import Binding, Broadcast, NewJob
from relevo.drivers.database.driver import DatabaseDriver
from tests.support.statements import statements_of
from tests.support.waits import LONG, readable


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def driver(request):
    driver = DatabaseDriver(request.getfixturevalue(f"{request.param}_url"))
    driver.create_schema()
    driver.now()  # asks the server once
    yield driver
    driver.close()


@pytest.fixture
def box(driver):
    name = f"box-{uuid4()}"
    driver.subscribe(name, [Binding(name)], 600)
    yield name
    driver.unsubscribe(name)


def test_an_idle_look_for_jobs_takes_no_transaction(driver):
    look = lambda driver: driver.reserve(["nothing-here"], 1, 60, "worker")  # noqa: E731
    assert look(driver) == []
    said = [sql for sql, _ in statements_of(driver, look)]
    assert len(said) == (2 if driver.name == "postgresql" else 1)
    assert "BEGIN" not in said


def test_an_idle_worker_takes_a_new_job_and_one_that_came_due(driver):
    now, queue = driver.now(), f"idle-{uuid4()}"
    take = lambda: [job.id for job in driver.reserve([queue], 5, 60, "worker")]  # noqa: E731
    assert take() == []
    driver.put([NewJob(queue, "{}", "a")])
    assert take() == ["a"]
    assert take() == []
    driver.put([NewJob(queue, "{}", "b", available_at=now)])
    assert take() == ["b"]


def test_an_idle_look_for_mail_takes_one_statement(driver, box):
    said = statements_of(driver, lambda driver: driver.receive(box))
    assert [sql.split()[0] for sql, _ in said] == ["SELECT"]
    driver.broadcast(
        [Broadcast(box, "", "x"), Broadcast("another", "", "y"), Broadcast(box, "", "z")]
    )
    assert [mail.payload for mail in driver.receive(box)] == ["x", "z"]


def test_mail_that_matches_two_bindings_of_a_mailbox_comes_once(driver, box):
    driver.subscribe(box, [Binding(box), Binding(box, "a.*")], 600)
    driver.broadcast([Broadcast(box, "a.b", "x")])
    assert [mail.payload for mail in driver.receive(box)] == ["x"]


def test_without_a_notification_of_postgresql_there_is_no_look_for_mail(
    postgresql_url, monkeypatch
):
    driver = DatabaseDriver(postgresql_url)
    driver.create_schema()
    subscription = driver.watch(["default"])
    monkeypatch.setattr(
        type(subscription), "max_interval", 0.0
    )  # what came just now may have brought some
    assert subscription.poll()
    assert not subscription.is_mail
    monkeypatch.undo()
    driver.notifier.notify()
    assert readable(subscription.fileno(), within=LONG)
    assert subscription.poll()
    assert subscription.is_mail
    subscription.close()
    driver.close()
