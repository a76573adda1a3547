"""A batch for one job: it is the job's `self.batch`, for that attempt alone."""

from __future__ import annotations

import pytest

from relevo.errors import BatchError, FakeError
from relevo.testing import FakeBatch


@pytest.fixture
def seen(app):
    """What a member saw as its batch, run by run."""
    found = []

    @app.task(name="shop.member", shared=False, bind=True)
    def member(self, *more):
        found.append(self.batch)
        if more:
            self.batch.add(member.s(number) for number in more)

    app.member = member
    return found


def test_a_job_has_it_for_one_attempt(app, queue, seen):
    batch = FakeBatch("b-7", total=2, completed=1)
    queue.job(app.member, (1, 2), batch=batch).assert_completed()
    queue.run(app.member).assert_completed()
    assert seen == [batch, None]
    assert (batch.id, batch.total, batch.completed, batch.pending) == ("b-7", 4, 1, 3)
    batch.assert_added([app.member.s(1), app.member])
    queue.assert_nothing_dispatched()
    assert batch.refresh() is batch


def test_a_cancelled_one_takes_nothing(app, queue, seen):
    batch = FakeBatch(cancelled=True)
    queue.job(app.member, (1,), batch=batch).assert_failed(with_=BatchError)
    batch.assert_nothing_added()
    with pytest.raises(FakeError, match="no failed jobs"):
        batch.retry_failed()


def test_a_failed_assertion_says_what_was_added(app, seen):
    batch = FakeBatch().add([app.member.s(1)])
    with pytest.raises(
        AssertionError, match=r"expected group\(shop.member\(2\)\).*\nadded: .*\(1\)"
    ):
        batch.assert_added([app.member.s(2)])
    with pytest.raises(AssertionError, match="to be cancelled"):
        batch.assert_cancelled()
    with pytest.raises(AssertionError, match="not to be cancelled"):
        batch.cancel().assert_not_cancelled()
