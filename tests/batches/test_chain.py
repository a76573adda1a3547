"""Our chains: counted, ended and continued, in a worker on SQLite and on Redis."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import NewJob, State
from relevo.errors import OptionError
from tests.support import batch_tasks
from tests.support.batch_tasks import calls_of, finished, task_of, working
from tests.support.waits import eventually


@pytest.fixture
def flow(batch_app):
    @batch_app.task(name="shop.add", shared=False)
    def add(x, y=1):
        batch_tasks.calls.append(("add", x + y))
        return x + y

    @batch_app.task(name="shop.breaks", shared=False)
    def breaks(x):
        batch_tasks.calls.append(("breaks", x))
        if not batch_tasks.mended.is_set():
            raise ValueError(x)
        return x

    return batch_app


def test_each_link_gets_what_the_one_before_returned(flow, calls):
    add, say = task_of(flow, "add"), task_of(flow, "say")
    with working(flow):
        new = (
            flow.chain(add.s(1), None, add.s(10)).add(add.s(100)).name("order").then(say.s("then"))
        )
        chain = finished(new.catch(say.s("catch")).finally_(say.s("finally")).dispatch())
        eventually(lambda: calls_of("then") and calls_of("finally"))
    assert calls_of("add") == [2, 12, 112]
    assert (chain.kind, chain.name, chain.total, chain.completed) == ("chain", "order", 3, 3)
    assert calls_of("then") == calls_of("finally") == [chain.id]
    assert calls_of("catch") == []


def test_a_failed_link_ends_the_chain_and_a_retry_continues_there(flow, calls):
    add, breaks, say = task_of(flow, "add"), task_of(flow, "breaks"), task_of(flow, "say")
    with working(flow):
        chain = (
            flow.chain(add.s(1), breaks.s(), add.s(10))
            .then(say.s("then"))
            .catch(say.s("catch"))
            .dispatch()
        )
        finished(chain)
        eventually(lambda: calls_of("catch"))
        assert (chain.completed, chain.failed, chain.total) == (1, 1, 3)
        batch_tasks.mended.set()
        assert chain.retry_failed() == 1
        eventually(lambda: calls_of("then"))
    chain.refresh()
    assert (chain.completed, chain.failed) == (3, 0)
    assert calls_of("add") == [2, 12]
    assert calls_of("catch") == calls_of("then") == [chain.id]


def test_a_link_that_runs_twice_dispatches_the_next_one_once(flow, calls):
    add = task_of(flow, "add")
    chain = flow.chain(add.s(1), add.s(10), add.s(100)).dispatch()
    with flow.connection_for_write() as connection:
        driver = connection.default_channel.driver
    [first] = driver.peek(flow.conf.task_default_queue, State.PENDING)
    with working(flow):
        finished(chain)
        driver.put([NewJob(first.queue, first.payload, first.id)])
        eventually(lambda: calls_of("add").count(2) == 2)
        eventually(
            lambda: not sum((driver.sizes(first.queue).pending, driver.sizes(first.queue).reserved))
        )
    assert calls_of("add") == [2, 12, 112, 2]
    assert chain.refresh().completed == 3


def test_a_batch_can_be_a_link(flow, calls):
    add, work, say = task_of(flow, "add"), task_of(flow, "work"), task_of(flow, "say")
    with working(flow):
        chain = flow.chain(add.s(1), flow.batch([work.si(1), work.si(2)]), say.s("last")).dispatch()
        finished(chain)
    assert sorted(calls_of("work")) == [1, 2]
    [batch] = calls_of("last")
    assert flow.batches.find(batch).completed == 2
    assert (chain.completed, chain.total) == (3, 3)


def test_a_batch_that_fails_ends_the_chain(flow, calls):
    work, say = task_of(flow, "work"), task_of(flow, "say")
    with working(flow):
        chain = (
            flow.chain(flow.batch([work.si(1, fails=True)]), say.s("last"))
            .catch(say.s("catch"))
            .dispatch()
        )
        finished(chain)
        eventually(lambda: calls_of("catch"))
    assert (chain.failed, chain.completed, chain.dropped) == (1, 0, 0)
    assert calls_of("last") == []


def test_a_batch_that_is_cancelled_or_whose_members_expire_ends_the_chain(flow, calls):
    """None has failed and not all have completed: the chain used to wait for ever."""
    work, say = task_of(flow, "work"), task_of(flow, "say")
    batch = flow.batch([work.si(1), work.si(2).set(expires=-1)])
    with working(flow):
        chain = (
            flow.chain(batch, say.s("last"))
            .catch(say.s("catch"))
            .finally_(say.s("finally"))
            .dispatch()
        )
        finished(chain)
        eventually(lambda: calls_of("finally"))
    assert (chain.dropped, chain.failed, chain.completed, chain.total) == (1, 0, 0, 2)
    assert calls_of("last") == calls_of("catch") == []


def test_the_same_dispatch_done_twice_is_one_chain(flow, calls):
    add = task_of(flow, "add")
    for _ in range(2):
        chain = flow.chain(add.s(1), add.s(1)).dispatch(id="order-7")
    with working(flow):
        finished(chain)
    assert calls_of("add") == [2, 3]


def test_an_invalid_chain_is_an_error_of_the_dispatch(flow):
    with pytest.raises(OptionError, match="at least one link"):
        flow.chain(None).dispatch()
    with pytest.raises(OptionError, match=r"write task\.s\(\)"):
        flow.chain(task_of(flow, "add")).dispatch()
