"""Chains of ours: counted, ended and continued, in a worker on SQLite and on Redis."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import NewJob, State
from relevo.errors import OptionError

# fixtures
from tests.batches.test_batch import app, finished, mended, said, t, told, told_of, working  # noqa: F401
from tests.support.waits import eventually


@pytest.fixture
def flow(app):  # noqa: F811
    @app.task(name="shop.add", shared=False)
    def add(x, y=1):
        said.append(("add", x + y))
        return x + y

    @app.task(name="shop.breaks", shared=False)
    def breaks(x):
        said.append(("breaks", x))
        if not mended.is_set():
            raise ValueError(x)
        return x

    return app


def test_each_link_gets_what_the_one_before_returned(flow, told):  # noqa: F811
    add, say = t(flow, "add"), t(flow, "say")
    with working(flow):
        new = (
            flow.chain(add.s(1), None, add.s(10)).add(add.s(100)).name("order").then(say.s("then"))
        )
        chain = finished(new.catch(say.s("catch")).finally_(say.s("finally")).dispatch())
        eventually(lambda: told_of("then") and told_of("finally"))
    assert told_of("add") == [2, 12, 112]
    assert (chain.kind, chain.name, chain.total, chain.completed) == ("chain", "order", 3, 3)
    assert told_of("then") == told_of("finally") == [chain.id]
    assert told_of("catch") == []


def test_a_link_that_fails_ends_it_and_a_retry_goes_on_from_there(flow, told):  # noqa: F811
    add, breaks, say = t(flow, "add"), t(flow, "breaks"), t(flow, "say")
    with working(flow):
        chain = (
            flow.chain(add.s(1), breaks.s(), add.s(10))
            .then(say.s("then"))
            .catch(say.s("catch"))
            .dispatch()
        )
        finished(chain)
        eventually(lambda: told_of("catch"))
        assert (chain.completed, chain.failed, chain.total) == (1, 1, 3)
        mended.set()
        assert chain.retry_failed() == 1
        eventually(lambda: told_of("then"))
    chain.refresh()
    assert (chain.completed, chain.failed) == (3, 0)
    assert told_of("add") == [2, 12]
    assert told_of("catch") == told_of("then") == [chain.id]


def test_a_link_that_runs_twice_hands_on_once(flow, told):  # noqa: F811
    add = t(flow, "add")
    chain = flow.chain(add.s(1), add.s(10), add.s(100)).dispatch()
    with flow.connection_for_write() as connection:
        driver = connection.default_channel.driver
    [first] = driver.peek(flow.conf.task_default_queue, State.PENDING)
    with working(flow):
        finished(chain)
        driver.put([NewJob(first.queue, first.payload, first.id)])
        eventually(lambda: told_of("add").count(2) == 2)
        eventually(
            lambda: not sum((driver.sizes(first.queue).pending, driver.sizes(first.queue).reserved))
        )
    assert told_of("add") == [2, 12, 112, 2]
    assert chain.refresh().completed == 3


def test_a_batch_can_be_a_link(flow, told):  # noqa: F811
    add, work, say = t(flow, "add"), t(flow, "work"), t(flow, "say")
    with working(flow):
        chain = flow.chain(add.s(1), flow.batch([work.si(1), work.si(2)]), say.s("last")).dispatch()
        finished(chain)
    assert sorted(told_of("work")) == [1, 2]
    [batch] = told_of("last")
    assert flow.batches.find(batch).completed == 2
    assert (chain.completed, chain.total) == (3, 3)


def test_a_batch_that_fails_ends_the_chain(flow, told):  # noqa: F811
    work, say = t(flow, "work"), t(flow, "say")
    with working(flow):
        chain = (
            flow.chain(flow.batch([work.si(1, fails=True)]), say.s("last"))
            .catch(say.s("catch"))
            .dispatch()
        )
        finished(chain)
        eventually(lambda: told_of("catch"))
    assert (chain.failed, chain.completed, chain.dropped) == (1, 0, 0)
    assert told_of("last") == []


def test_a_batch_that_is_cancelled_or_whose_members_expire_ends_the_chain(flow, told):  # noqa: F811
    """Nobody has failed and not all have completed: the chain waited for ever."""
    work, say = t(flow, "work"), t(flow, "say")
    batch = flow.batch([work.si(1), work.si(2).set(expires=-1)])
    with working(flow):
        chain = (
            flow.chain(batch, say.s("last"))
            .catch(say.s("catch"))
            .finally_(say.s("finally"))
            .dispatch()
        )
        finished(chain)
        eventually(lambda: told_of("finally"))
    assert (chain.dropped, chain.failed, chain.completed, chain.total) == (1, 0, 0, 2)
    assert told_of("last") == told_of("catch") == []


def test_the_same_dispatch_done_twice_is_one_chain(flow, told):  # noqa: F811
    add = t(flow, "add")
    for _ in range(2):
        chain = flow.chain(add.s(1), add.s(1)).dispatch(id="order-7")
    with working(flow):
        finished(chain)
    assert told_of("add") == [2, 3]


def test_what_can_not_be_a_chain_is_an_error_of_the_dispatch(flow):
    with pytest.raises(OptionError, match="at least one link"):
        flow.chain(None).dispatch()
    with pytest.raises(OptionError, match=r"write task\.s\(\)"):
        flow.chain(t(flow, "add")).dispatch()
