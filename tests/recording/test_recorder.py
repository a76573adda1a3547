"""The recorder: it writes in groups, acks only what is written, and outlasts a store
that is away.
"""

from __future__ import annotations

import threading

import pytest

from relevo.errors import DriverUnavailableError
from relevo.recording import recorder
from relevo.recording.recorder import Recorder
from tests.support.waits import LONG


class Store:
    """Keeps what is written, unless it is away, is held, or gets a bad record."""

    def __init__(self):
        self.groups = []
        self.away = False
        self.tried = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    def write(self, records):
        self.tried.release()
        assert self.open.wait(LONG)
        if self.away:
            raise DriverUnavailableError("gone")
        if "bad" in records:
            raise ValueError("bad")
        self.groups.append(list(records))

    @property
    def records(self):
        return [record for group in self.groups for record in group]


def no_op(_items):
    """Nothing is left to do when it is recorded."""


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(recorder, "RETRY_SECONDS", 0.01)
    return Store()


@pytest.fixture
def recording(store):
    recording = Recorder(store.write)
    yield recording
    store.open.set()
    recording.stop()


def test_jobs_that_end_together_are_written_together_and_then_acked(store, recording):
    acked = []

    def done(items):
        acked.append((items, list(store.records)))

    for number in range(10):
        recording.add(number, done, number)
    recording.stop()
    assert store.groups == [list(range(10))]
    assert acked == [(list(range(10)), list(range(10)))]


def test_many_outcomes_are_written_in_groups(store, recording):
    store.open.clear()
    for number in range(recorder.MAX_GROUP_SIZE * 2 + 50):
        recording.add(number, no_op)
    store.open.set()
    recording.stop()
    assert store.records == list(range(recorder.MAX_GROUP_SIZE * 2 + 50))
    assert max(map(len, store.groups)) <= recorder.MAX_GROUP_SIZE


def test_while_the_store_is_away_nothing_is_acked_and_nothing_is_lost(store, recording):
    store.away, acked = True, threading.Event()
    recording.add("a", lambda _: acked.set())
    for _ in range(3):
        assert store.tried.acquire(timeout=LONG)
    assert not acked.is_set()
    store.away = False
    assert acked.wait(LONG)
    assert store.records == ["a"]


def test_a_worker_that_ends_while_the_store_is_away_acks_nothing(store, recording):
    store.away, acked = True, []
    recording.add("a", acked.extend, "a")
    recording.stop()
    assert (acked, store.records) == ([], [])


def test_a_refused_record_does_not_block_the_others_and_its_job_is_not_acked(store, recording):
    acked = []
    store.open.clear()
    for record in ("a", "bad", "b"):
        recording.add(record, acked.extend, record)
    store.open.set()
    recording.stop()
    assert acked == ["a", "b"]
    assert sorted(store.records) == ["a", "b"]


def test_a_failing_ack_does_not_block_the_others(store, recording):
    acked = []
    recording.add("a", lambda _: 1 / 0)
    recording.add("b", acked.extend, "b")
    recording.stop()
    assert acked == ["b"]


def test_the_recorder_warns_when_it_can_not_keep_up(store, recording, monkeypatch):
    monkeypatch.setattr(recorder, "MAX_WAITING", 2)
    store.open.clear()
    recording.add("a", no_op)
    assert not recording.is_full
    recording.add("b", no_op)
    assert recording.is_full
