"""The loop of the kombu transport, on a SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kombu import Connection, Consumer, Exchange, Queue

from relevo import drivers
from relevo.drivers import transport
from relevo.drivers.database.bells import SqliteBell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    drivers.register()
    with Connection(f"sqlite:///{tmp_path}/relevo.db") as connection:
        connection.connect()
        yield connection
        connection.transport.driver.close()


@pytest.mark.parametrize(("every", "looks"), [(0.0, True), (1e9, False)])
def test_a_mailbox_is_kept_open_while_nothing_happens(connection, monkeypatch, every, looks):
    """A worker that had heard nothing for ten seconds was deaf to remote control: its mailbox had been closed."""
    monkeypatch.setattr(transport, "MAIL_EVERY", every)
    monkeypatch.setattr(SqliteBell, "hear", lambda _: False)
    read = []
    monkeypatch.setattr(type(connection.transport.driver), "receive", lambda _, mailbox: read.append(mailbox) or [])
    mailbox = Queue("control", Exchange("pidbox", "fanout"), expires=10, auto_delete=True)
    with Consumer(connection, [mailbox], no_ack=True):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.001)
    assert (len(read) > 1) == looks


def test_a_worker_that_is_to_stop_gives_the_others_of_its_process_a_turn(connection, monkeypatch):
    turns = []
    monkeypatch.setattr(transport, "stop_asked", lambda: True)
    monkeypatch.setattr(transport.time, "sleep", turns.append)
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=60)
    assert turns == [transport.YIELD]
