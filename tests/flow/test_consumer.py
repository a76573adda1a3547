"""A plain kombu consumer, without Celery's worker around it, on our transport."""

from __future__ import annotations

import pytest
from kombu import Connection

from relevo.transport import registration
from relevo.transport.context import WorkerContext
from tests.support.waits import LONG

MESSAGES = 250


@pytest.fixture
def connection(tmp_path, monkeypatch):
    registration.register_transport()
    # not the context of a worker that another test ran in this process
    monkeypatch.setattr("relevo.transport.context._current", WorkerContext())
    with Connection(f"sqlite:///{tmp_path}/jobs.sqlite3") as connection:
        yield connection


def test_a_consumer_without_a_prefetch_count_gets_everything_in_order(connection):
    queue = connection.SimpleQueue("letters")
    for number in range(MESSAGES):
        queue.put({"number": number})
    assert queue.qsize() == MESSAGES
    got = []
    for _ in range(MESSAGES):
        message = queue.get(timeout=LONG)
        got.append(message.payload["number"])
        message.ack()
    assert got == list(range(MESSAGES))


def test_unacked_messages_are_released_when_the_connection_closes(connection):
    connection.SimpleQueue("letters").put({"number": 1})
    with connection.clone() as other:
        assert other.SimpleQueue("letters").get(timeout=LONG).payload == {"number": 1}
    again = connection.SimpleQueue("letters").get(timeout=LONG)
    assert again.payload == {"number": 1}
    again.ack()


def test_a_compressed_body_arrives_as_it_was(connection):
    queue = connection.SimpleQueue("letters")
    queue.put({"text": "ñ" * 1000}, compression="zlib")
    message = queue.get(timeout=LONG)
    assert message.payload == {"text": "ñ" * 1000}
    message.ack()
