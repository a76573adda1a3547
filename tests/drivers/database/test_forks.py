"""Forks: a child that inherits a driver opens its own connections and leaves its parent's alone."""

from __future__ import annotations

import gc
import os
import signal
import threading

import pytest
from celery import Celery
from sqlalchemy import text

from relevo.batches import result_backends
from relevo.drivers.contract import NewJob
from relevo.drivers.database.driver import DatabaseDriver
from tests.support.waits import LONG

WHO = {
    "sqlite": "SELECT 1",
    "postgresql": "SELECT pg_backend_pid()",
    "mysql": "SELECT CONNECTION_ID()",
}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def driver(request, tmp_path):
    url = (
        f"sqlite:///{tmp_path}/relevo.db"
        if request.param == "sqlite"
        else request.getfixturevalue(f"{request.param}_url")
    )
    driver = DatabaseDriver(url)
    driver.create_schema()
    driver.close()  # so that it has one connection from here on, or none
    driver.delete(["parent", "child", "later"])
    yield driver
    driver.delete(["parent", "child", "later"])
    driver.close()


def who(driver):
    """The server's id of the driver's connection."""
    return driver.connections.read(
        lambda connection: connection.execute(text(WHO[driver.name])).scalar()
    )


def in_a_child(work) -> int:
    """Run `work` in a forked child; its exit code."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException:  # noqa: BLE001  nothing of pytest's may run in the child
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_uses_a_connection_of_its_own(driver):
    # Given a driver that has a connection, and a subscription that has one
    driver.put([NewJob("forks", "{}", "parent")])
    subscription = driver.watch(["forks"])
    subscription.poll()
    mine = who(driver)

    # When a child uses the inherited driver, throws away what it inherited and closes
    def child():
        assert driver.name == "sqlite" or who(driver) != mine
        driver.put([NewJob("forks", "{}", "child")])
        gc.collect()
        subscription.close()
        driver.close()

    assert in_a_child(child) == 0

    # I expect the parent's connection to be the one it had, and to work
    assert who(driver) == mine
    assert [job.id for job in driver.reserve(["forks"], 5, 600, "worker")] == ["parent", "child"]
    assert subscription.poll()
    subscription.close()


def test_a_child_goes_on_when_its_parent_closes(driver):
    """With SQLite, the last to close removes the log that the others write to: it must know that a
    child is left.
    """
    driver.put([NewJob("forks", "{}", "parent")])
    (done, say_done), (told, tell) = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        for id_ in ("child", "later"):
            driver.put([NewJob("forks", "{}", id_)])
            os.write(say_done, b"!")
            os.read(told, 1)
        signal.pause()

    # When the parent closes while a child has the file open, and the child writes on and is killed
    os.read(done, 1)
    driver.close()
    os.write(tell, b"!")
    os.read(done, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    # I expect nothing to be lost
    assert [job.id for job in driver.reserve(["forks"], 5, 600, "worker")] == [
        "parent",
        "child",
        "later",
    ]


def test_no_fork_happens_while_a_result_is_being_written(tmp_path, monkeypatch):
    """A child that is forked there finds the file locked for as long as it lives: the kernel's lock
    isn't its own.
    """
    result_backends.register_backends()
    app = Celery("forks", set_as_current=False)
    app.conf.update(result_backend=f"db+sqlite:///{tmp_path}/results.db")
    backend, update, parent = app.backend, app.backend._update_result, os.getpid()
    writing, forking = threading.Event(), threading.Event()
    os.register_at_fork(before=forking.set)  # called before those that were registered earlier

    def slowly(*args, **kwargs):
        update(*args, **kwargs)
        if os.getpid() == parent:
            writing.set()
            forking.wait(LONG)

    monkeypatch.setattr(backend, "_update_result", slowly)
    writer = threading.Thread(target=backend.store_result, args=("parent", 1, "SUCCESS"))
    writer.start()
    assert writing.wait(LONG)
    assert in_a_child(lambda: backend.store_result("child", 2, "SUCCESS")) == 0
    writer.join()
    assert [backend.get_result(name) for name in ("parent", "child")] == [1, 2]
