"""Chains of `app.chain` under a fake: recorded like Celery's own, run link by link, their callbacks
dispatched.
"""

from __future__ import annotations

import pytest
from celery import group

from relevo.batches import nested
from relevo.errors import OptionError
from relevo.testing import fake


@pytest.fixture
def told(app):
    """Tasks that record their calls."""
    said = []

    @app.task(name="shop.say", shared=False)
    def say(chain, what, more=None):
        said.append((what, chain))

    @app.task(name="shop.step", shared=False)
    def step(number, fails=False):
        said.append(("step", number))
        if fails:
            raise ValueError(number)
        return number + 1

    app.say, app.step = say, step
    return said


def dispatched(app, *links, **options):
    say = app.say
    new = (
        app.chain(*links)
        .name("order")
        .then(say.s("then"))
        .catch(say.s("catch", more=1))
        .finally_(say.s("finally"))
    )
    return new.on_queue("low").dispatch(**options)


def test_a_chain_is_recorded_by_its_first_job_and_asserted_like_celerys(app, queue, told):
    made = dispatched(app, app.step.s(1), None, app.step.s(), id="order-7")
    assert (made.id, made.kind, made.name, made.total, made.queue) == (
        "order-7",
        "chain",
        "order",
        2,
        "low",
    )
    queue.assert_chained([app.step, app.step])
    queue.assert_chained(
        [app.step.s(1), app.step.s()], where=lambda job: job.queue == "low" and job.headers == {}
    )
    queue.assert_dispatched("shop.step", times=1)
    [chain] = queue.chains()
    assert (chain.id, chain.name, chain.queue, list(chain.callbacks)) == (
        made.id,
        "order",
        "low",
        ["then", "catch", "finally"],
    )
    assert str(chain).startswith("order of shop.step(1) | shop.step(), then: shop.say('then')")
    assert told == []


def test_a_chain_runs_to_its_end(app, queue, told):
    made = dispatched(app, app.step.s(1), app.step.s())
    queue.drain()
    assert told == [("step", 1), ("step", 2), ("then", made.id), ("finally", made.id)]
    assert [job.queue for job in queue.all()] == ["low"] * 4


def test_the_first_failing_link_ends_the_chain(app, queue, told):
    made = dispatched(app, app.step.s(1, fails=True), app.step.s())
    queue.drain()
    assert told == [("step", 1), ("catch", made.id), ("finally", made.id)]
    queue.assert_dispatched(app.say, kwargs={"more": 1}, times=1)


def test_an_invalid_link_is_the_usual_error(app, queue, told):
    with pytest.raises(OptionError, match="at least one link"):
        app.chain(None).dispatch()
    with pytest.raises(OptionError, match=r"write task\.s\(\)"):
        app.chain(app.step).dispatch()


def test_a_batch_can_be_a_link_and_is_taken_when_its_turn_comes(app, queue, told):
    nested.register_tasks(app)
    app.chain(app.step.s(1), app.batch([app.step.s(7)])).dispatch()
    queue.assert_chained([app.step, "relevo.open_batch"])
    queue.drain()
    queue.assert_batched([app.step.s(7)])


def test_a_chain_with_a_link_that_is_not_taken_goes_to_the_broker(app, told, send, monkeypatch):
    sent = []
    monkeypatch.setattr(app, "send_chain", lambda new, id_, session=None: sent.append(new.links))
    with fake(only=[send], app=app) as some:
        app.send_chain(app.chain(app.step.s(1), send.s("ada")), "id")
        some.assert_nothing_chained()
    assert len(sent) == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_batch_among_the_links_is_expected_as_a_batch(app, queue, told, place):
    def links(number, *more):
        found = [app.step.si(1), app.step.s()]
        members = [app.step.s(number), [app.step.s(5), app.step.s()], *more]
        return [*found[:place], app.batch(each for each in members), *found[place:]]

    app.chain(*links(4)).dispatch()
    queue.assert_chained(links(4))
    any_step = [app.step, app.step]
    queue.assert_chained([*any_step[:place], app.batch([app.step, any_step]), *any_step[place:]])
    for other in (links(3), links(4, app.step.s(6)), [app.step, group(any_step), app.step]):
        with pytest.raises(AssertionError, match=r"the chain .*(batch|group)\(shop"):
            queue.assert_chained(other)
