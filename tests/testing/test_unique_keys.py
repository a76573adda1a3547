"""Unique jobs in a fake: dropped, replaced or debounced as by a broker."""

from __future__ import annotations

import pytest

from relevo.testing import fake


@pytest.fixture
def index(app):
    return indexing(app)


def indexing(app, name="search.index", body=lambda page, text=None: text, **options):
    @app.task(name=name, shared=False, **{"unique_by": ["page"], **options})
    def index(page, text=None):
        return body(page, text)

    return index


def test_a_duplicate_is_not_dispatched_and_returns_the_first_job(queue, index):
    first, second = index.dispatch(1, "a"), index.dispatch(1, "b")
    assert (second.id, second.is_duplicate) == (first.id, True)
    assert queue.assert_dispatched_once(index).args == (1, "a")
    assert not index.dispatch(2).is_duplicate


def test_a_key_is_free_when_the_job_is_over(queue, index):
    index.dispatch(1)
    queue.drain()
    assert not index.dispatch(1).is_duplicate


def test_a_released_job_keeps_its_key(queue, app):
    def fail(*_arguments):
        raise OSError

    index = indexing(app, body=fail, tries=2)
    index.dispatch(1)
    queue.drain(limit=1)
    assert index.dispatch(1).is_duplicate
    queue.drain(including_delayed=True)
    assert not index.dispatch(1).is_duplicate


@pytest.mark.parametrize(("until", "is_duplicate"), [("done", True), ("start", False)])
def test_a_running_job_holds_its_key_unless_it_is_freed_at_the_start(
    queue, app, until, is_duplicate
):
    seen = []

    def dispatch_again(page, _text):
        if not seen:
            seen.append(index.dispatch(page).is_duplicate)

    index = indexing(app, body=dispatch_again, unique_until=until)
    index.dispatch(1)
    queue.drain()
    assert seen == [is_duplicate]


def test_a_key_ends_after_its_duration(queue, app):
    index = indexing(app, unique_for=60)
    index.dispatch(1)
    queue.travel(59)
    assert index.dispatch(1).is_duplicate
    queue.travel(1)
    assert not index.dispatch(1).is_duplicate
    queue.assert_count(2, index)


def test_a_job_that_waits_is_replaced_and_counted_once(queue, app):
    index = indexing(app, on_conflict="replace")
    first, second = index.dispatch(1, "a"), index.dispatch(1, "b")
    assert (second.id, second.has_replaced) == (first.id, True)
    assert queue.assert_dispatched_once(index).args == (1, "b")
    assert [attempt.result for attempt in queue.drain()] == ["b"]


def test_a_debounced_job_runs_when_it_has_been_quiet_or_at_the_latest(queue, app):
    index = indexing(app, debounce=10, debounce_max=25)
    index.dispatch(1, "a")
    queue.assert_dispatched_delayed(index, 10)
    for text in ("b", "c", "d"):
        queue.travel(8)
        assert queue.drain() == []
        assert index.dispatch(1, text).has_replaced
    queue.travel(1)
    assert [attempt.result for attempt in queue.drain()] == ["d"]
    assert not index.dispatch(1).is_duplicate


def test_two_fakes_are_independent(app, index):
    for _ in range(2):
        with fake(app=app):
            assert not index.dispatch(1).is_duplicate
