"""Batches under a fake: recorded, asserted, not sent."""

from __future__ import annotations

import pytest
from celery import chain

from relevo.errors import OptionError
from relevo.testing import fake


@pytest.fixture
def batch(app, queue, process, send):
    members = [process.s(7), chain(process.s(8), send.s())]
    return app.batch(members).name("import").then(send.si("ada")).on_queue("low").dispatch()


def test_a_batch_is_recorded_with_its_members_and_callbacks(batch, queue, process, send):
    assert (batch.total, batch.pending, batch.finished, batch.name) == (2, 2, False, "import")
    queue.assert_nothing_dispatched()
    [taken] = queue.batches()
    assert (taken.id, taken.queue, taken.allow_failures) == (batch.id, "low", False)
    queue.assert_batched([process.s(7), [process, send]], name="import", times=1)
    queue.assert_batched(where=lambda each: list(each.callbacks) == ["then"])
    queue.assert_batch_count(1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            lambda queue: queue.assert_batched(["shop.resize"]),
            r"expected a batch of .*shop\.resize",
        ),
        (
            lambda queue: queue.assert_batched(name="export"),
            "expected a batch named 'export' to be dispatched\nbatches:",
        ),
        (lambda queue: queue.assert_batched(times=2), "2 times, got 1"),
        (
            lambda queue: queue.assert_batched(where=lambda each: each.allow_failures),
            "where the predicate is true",
        ),
        (
            lambda queue: queue.assert_batch_count(3),
            r"3 batches to be dispatched, got 1\nbatches:\n  1\. import of ",
        ),
        (lambda queue: queue.assert_nothing_batched(), r"then: shop\.mail\('ada'\)"),
    ],
)
def test_a_failed_assertion_lists_the_batches(batch, queue, wrong, said):
    with pytest.raises(AssertionError, match=said):
        wrong(queue)


def test_no_batch_was_dispatched(queue):
    queue.assert_nothing_batched()
    with pytest.raises(AssertionError, match="no batch was dispatched"):
        queue.assert_batched()


def test_members_are_checked_as_in_production(app, queue):
    with pytest.raises(OptionError, match="expected a member of a batch"):
        app.batch([7]).dispatch()


def test_a_batch_of_other_tasks_is_not_taken(app, process, send, monkeypatch):
    sent = []
    monkeypatch.setattr(
        app, "send_batch", lambda new, id_, session=None: sent.append(list(new.members))
    )
    with fake(only=[send], app=app) as some:
        app.send_batch(app.batch([process.s(7), send.s("ada")]), "id")
        some.assert_nothing_batched()
    assert sent == [[process.s(7), send.s("ada")]]
