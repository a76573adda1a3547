"""Results on their way to the backend: captured, written with the record, and deciding nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import states

from relevo.recording import results
from relevo.recording.results import MAX_TRIES, CapturedResult, ResultWriter


class Backend:
    """A result backend that is away, or refuses, or takes what it gets."""

    def __init__(self) -> None:
        self.taken, self.error, self.refused = [], None, set()

    def write_captured(self, items):
        if self.error is not None:
            raise self.error
        if self.refused & set(items):
            raise ValueError("too large")
        self.taken += items


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def writer(backend):
    app = SimpleNamespace(tasks={"add": SimpleNamespace(backend=backend)}, backend=backend)
    return ResultWriter(app, lambda _backend: False)


FOUND = [
    CapturedResult("add", "one"),
    CapturedResult("add", "two"),
    CapturedResult("gone", "three"),
]


def test_only_the_final_result_of_the_job_itself_is_captured():
    assert results.capture("a", states.SUCCESS) is None
    with results.captured("a") as found:
        assert results.capture("a", states.SUCCESS) is found
        assert results.capture("a", states.FAILURE) is found
        assert results.capture("a", "PROGRESS") is None
        assert results.capture("another", states.SUCCESS) is None
        with results.captured("inner"):
            assert results.capture("a", states.SUCCESS) is None
        assert results.capture("a", states.SUCCESS) is found


def test_results_of_all_tasks_are_written(writer, backend):
    assert writer.publish(FOUND)
    assert backend.taken == ["one", "two", "three"]


@pytest.mark.parametrize("error", [ConnectionError(), TimeoutError(), OSError()])
def test_a_backend_that_is_away_is_waited_for_however_long(writer, backend, error):
    backend.error = error
    assert not any(writer.publish(FOUND) for _ in range(MAX_TRIES * 3))
    backend.error = None
    assert writer.publish(FOUND)
    assert backend.taken == ["one", "two", "three"]


def test_a_result_that_is_refused_holds_up_the_others_for_a_few_tries_only(writer, backend):
    backend.refused = {"two"}
    tries = 1
    while not writer.publish(FOUND):
        tries += 1
    assert tries == MAX_TRIES
    assert {"one", "three"} <= set(backend.taken)
    assert "two" not in backend.taken


def test_what_a_backend_raises_is_not_the_caller_s_business_without_a_recorder(backend):
    backend.error = RuntimeError("anything")
    results.keep(FOUND, backend, None)
    backend.error = None
    results.keep(FOUND, backend, None)
    assert backend.taken == ["one", "two", "three"]
