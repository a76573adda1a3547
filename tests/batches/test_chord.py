"""Celery's chords, counted by Relevo: real messages and one worker, with SQLite or Redis for broker
and results.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from celery import chain, chord, group
from celery.backends.redis import ResultConsumer
from celery.exceptions import ChordError
from celery.result import GroupResult
from celery.signals import before_task_publish

from relevo.batches.result_backends import RedisResults
from relevo.drivers.contract import NewJob, State
from relevo.errors import BatchError, OptionError
from relevo.job import membership
from relevo.operations import cancel
from relevo.store import batches
from relevo.store.batch_counts import CANCELLED
from relevo.transport.context import current
from relevo.worker.cancelled_batches import CancelledBatches
from tests.support import chord_tasks
from tests.support.batch_tasks import working
from tests.support.waits import LONG, eventually

published: Counter = Counter()


class Deaf(ResultConsumer):
    """Results are forgotten whenever Python likes, and by then the server is gone."""

    def cancel_for(self, task_id): ...


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module", params=["database", "redis"])
def shop(request, tmp_path_factory, module_patch):
    folder = tmp_path_factory.mktemp(f"chords-{request.param}")
    environ = (
        {"REDIS_URL": request.getfixturevalue("redis_url")} if request.param == "redis" else {}
    )
    module_patch.setattr(RedisResults, "ResultConsumer", Deaf)
    shop = chord_tasks.app_on(request.param, folder, environ)

    def count(sender=None, **_signal):
        published[sender] += 1

    before_task_publish.connect(count, weak=False)
    with working(shop.app, concurrency=4):
        yield shop
    before_task_publish.disconnect(count)
    assert not published["celery.chord_unlock"]


def get(result):
    return result.get(timeout=LONG, disable_sync_subtasks=False)


def error_of(shop, result):
    """The error of a body that could not run. (Celery's `get` raises the error of the header's
    job.)
    """
    eventually(lambda: shop.app.AsyncResult(result.id).state == "FAILURE")
    found = shop.app.AsyncResult(result.id).result
    assert type(found).__name__ == ChordError.__name__
    return str(found)


def of(what):
    return [rest for kind, *rest in list(chord_tasks.calls) if kind == what]


def driver_of(app):
    with app.connection_for_write() as connection:
        return connection.default_channel.driver


def idle(driver, queue):
    sizes = driver.sizes(queue)
    return not sizes.pending + sizes.reserved


def ended(shop, id_):
    def look():
        found = shop.app.batches.find(id_)
        return found if found is not None and found.finished else None

    eventually(look)
    return look()


def test_the_body_gets_the_results_in_order_and_the_chord_is_listed(shop):
    result = chord([shop.add.s(n, n) for n in range(20)], shop.total.s()).apply_async()
    assert get(result) == 380
    assert of("total") == [[[2 * n for n in range(20)]]]
    row = ended(shop, result.parent.id)
    assert (row.kind, row.name, row.total, row.completed, row.percent) == (
        "chord",
        "total",
        20,
        20,
        100,
    )
    assert row.id in [each.id for each in shop.app.batches.page()]


EXPECTED = {
    "generator": 6,
    "empty": 0,
    "group in it": 10,
    "chain in it": 13,
    "chain that ends in a group": [[11, 40]],
    "chord in it": 16,
    "chord as body": 9,
    "chain as body": 13,
    "in a chain": 33,
    "two in a chain": 42,
    "generator of groups": [0, 0, 1, 1, 2, 2],
    "members without results": 3,
    "replaced": 85,
    "replaced by a chain": 43,
    "replaced by a group": [[40, 2], 1],
    "body is a group": [3, 3],
}


def shapes_of(shop):
    add, total, same = shop.add, shop.total, shop.same
    return {
        "generator": lambda: chord((add.s(n) for n in range(4)), total.s()),
        "empty": lambda: chord([], total.s()),
        "group in it": lambda: chord(
            [add.s(1), group(add.s(2), group(add.s(3), add.s(4)))], total.s()
        ),
        "chain in it": lambda: chord([add.s(1), chain(add.s(2), add.s(10))], total.s()),
        "chain that ends in a group": lambda: chord(
            [chain(add.s(1), group(add.s(10), add.s(39)))], same.s()
        ),
        "chord in it": lambda: chord(
            [add.s(1), chord([add.s(5), add.s(10)], total.s())], total.s()
        ),
        "chord as body": lambda: chord(
            [add.s(1), add.s(2)], chord([total.s(), total.s(), total.s()], total.s())
        ),
        "chain as body": lambda: chord([add.s(1), add.s(2)], chain(total.s(), add.s(10))),
        "in a chain": lambda: chain(add.s(1), group(add.s(10), add.s(20)), total.s(), add.s(1)),
        "two in a chain": lambda: chain(
            group(add.s(1), add.s(2)), total.s(), group(add.s(10), add.s(26)), total.s()
        ),
        "generator of groups": lambda: chord(
            (group(add.s(n), add.s(n)) for n in range(3)), same.s()
        ),
        "members without results": lambda: chord([shop.quiet.s(1), add.s(2)], total.s()),
        "replaced": lambda: chord(
            [shop.goes_on.s("job"), shop.goes_on.s("job"), add.s(1)], total.s()
        ),
        "replaced by a chain": lambda: chord([shop.goes_on.s("chain"), add.s(1)], total.s()),
        "replaced by a group": lambda: chord([shop.goes_on.s("group"), add.s(1)], same.s()),
        "body is a group": lambda: chord([add.s(1), add.s(2)], group(total.s(), total.s())),
    }


def test_every_shape_of_canvas_gives_celerys_result(shop):
    """All at once: none waits for another. (Of a shop that is slow, some.)"""
    wanted = getattr(shop, "shapes", EXPECTED)
    results = {
        what: shape().apply_async() for what, shape in shapes_of(shop).items() if what in wanted
    }
    assert {what: get(result) for what, result in results.items()} == {
        what: EXPECTED[what] for what in wanted
    }


def test_a_failing_member_calls_the_error_callbacks_once_and_the_body_never(shop):
    body = shop.total.s().on_error(shop.alarm.s()).on_error(shop.late_alarm.s())
    result = chord([shop.add.s(1), shop.breaks.s(2), shop.breaks.s(3)], body).apply_async()
    assert "raised ValueError(" in error_of(shop, result)
    eventually(lambda: of("late_alarm"))
    row = ended(shop, result.parent.id)
    assert (row.total, row.completed, row.failed, row.cancelled) == (3, 1, 2, False)
    assert of("alarm") == [[result.id, "ChordError"]]
    assert of("late_alarm") == [[result.id]]
    assert of("total") == []


def test_a_failed_member_that_is_retried_and_completes_lets_the_body_run(shop):
    result = chord([shop.add.s(1), shop.breaks.s(2)], shop.total.s()).apply_async()
    error_of(shop, result)
    chord_tasks.mended.set()
    assert ended(shop, result.parent.id).retry_failed() == 1
    eventually(lambda: of("total"))
    eventually(lambda: shop.app.AsyncResult(result.id).state == "SUCCESS")
    assert shop.app.AsyncResult(result.id).get() == 3


def test_a_member_replaced_by_a_chord_whose_header_fails_is_failed_until_it_is_retried(
    shop,
):
    """If the chord's body is a chain, or more links follow, the batch used to wait for ever."""
    follows = [shop.goes_on.si("breaks"), shop.add.s(1)]
    batch = (
        shop.app.batch([follows, shop.goes_on.si("breaks before a chain")])
        .allow_failures()
        .dispatch()
    )
    order = shop.app.chain(*follows).dispatch()
    eventually(lambda: batch.refresh().finished and order.refresh().finished)
    assert (batch.completed, batch.failed, order.completed, order.failed) == (0, 2, 0, 1)
    # They would not wait for ever if the job that ends such a chord were deleted,
    # either.
    chords = [each.row for each in shop.app.batches.page(limit=5) if each.kind == "chord"]
    joins = [row.callbacks["finally"][0]["payload"] for row in chords]
    views = [
        SimpleNamespace(id="joined", payload=payload, queue="q", state=State.PENDING)
        for payload in joins
    ]
    never = [
        end
        for view in views
        for end in membership.ends_of_request(cancel.BrokerJobRequest(shop.app, view), CANCELLED)
    ]
    assert {(end.batch, end.member, end.state) for end in never} == {
        (batch.id, 0, CANCELLED),
        (batch.id, 1, CANCELLED),
        (order.id, 0, CANCELLED),
    }
    chord_tasks.mended.set()
    for row in shop.app.batches.page(limit=5):
        row.retry_failed()
    eventually(lambda: (batch.refresh().completed, order.refresh().completed) == (2, 2))
    assert (batch.failed, order.failed) == (0, 0)


def test_a_unique_job_in_a_header_or_behind_it_is_never_left_out_as_a_duplicate(shop):
    first = shop.alone.apply_async((1,), countdown=3600)
    assert shop.alone.apply_async((1,), countdown=3600).is_duplicate
    behind = chain(shop.add.s(1), shop.alone.s(2), shop.add.s(3))
    assert get(chord([behind, shop.alone.s(4)], shop.total.s()).apply_async()) == 10
    driver_of(shop.app).delete([first.id])


@pytest.mark.parametrize("where", ["chain", "chord", "body", "group at the end"])
def test_a_failure_in_an_inner_chord_reaches_the_outermost_one(shop, where):
    add, breaks, total = shop.add, shop.breaks, shop.total
    shapes = {
        "chain": lambda: chord([chain(breaks.s(1), add.s(1)), add.s(1)], total.s()),
        "chord": lambda: chord([chord([breaks.s(1), add.s(1)], total.s()), add.s(1)], total.s()),
        "body": lambda: chord([add.s(1)], chord([breaks.si(1), add.si(1)], total.s())),
        "group at the end": lambda: chord(
            [chain(breaks.s(1), group(add.s(1), add.s(2)))], total.s()
        ),
    }
    before = {each.id for each in shop.app.batches.page()}
    result = shapes[where]().apply_async()
    error_of(shop, result)
    eventually(lambda: all(each.finished for each in shop.app.batches.page()))
    rows = [each for each in shop.app.batches.page() if each.id not in before]
    assert [bool(each.failed) for each in rows].count(True) == (2 if where == "chord" else 1)
    assert not any(each.pending for each in rows)
    assert of("total") == []


def test_results_are_the_same_as_celerys(shop):
    body = shop.total.s()
    body.options["queue"] = shop.app.conf.task_default_queue
    result = chord([shop.add.s(1), shop.add.s(2)], body).apply_async(
        countdown=0.1, link_error=shop.alarm.s()
    )
    assert isinstance(result.parent, GroupResult)
    assert result.parent.get(timeout=LONG, disable_sync_subtasks=False) == [1, 2]
    assert get(result) == 3
    result.parent.save()
    restored = GroupResult.restore(result.parent.id, app=shop.app)
    assert restored.get(timeout=LONG) == [1, 2]
    restored.delete()
    result.forget()
    assert shop.app.AsyncResult(result.id).state == "PENDING"


def test_a_member_knows_its_chord_and_can_add_to_it_and_cancel_it(shop):
    result = chord([shop.is_in.s(), shop.is_in.s()], shop.same.s()).apply_async()
    assert get(result) == [result.parent.id] * 2
    grown = chord([shop.add.s(1), shop.grows.s()], shop.total.s()).apply_async()
    assert get(grown) == 102
    assert ended(shop, grown.parent.id).total == 3
    twice = chord(
        [shop.add.s(1), shop.grows.s(again=True)], shop.total.s()
    ).apply_async()  # it, and what replaces it
    assert get(twice) == 202
    with pytest.raises(BatchError, match="is a chord"):
        shop.app.batches.find(grown.parent.id).add([shop.add.s(1)])
    cancelled = chord(
        [shop.cancels.s(), shop.add.s(1).set(countdown=3600)], shop.total.s()
    ).apply_async()
    eventually(lambda: shop.app.batches.find(cancelled.parent.id).cancelled)
    # the worker forgets what it has seen of the batch
    current().is_cancelled_member = CancelledBatches(shop.store).is_cancelled_member
    driver = driver_of(shop.app)
    driver.hasten(
        [view.id for view in driver.peek(shop.app.conf.task_default_queue, State.DELAYED)]
    )
    assert "Revoked" in error_of(shop, cancelled)
    row = ended(shop, cancelled.parent.id)
    assert (row.cancelled, row.completed, row.dropped) == (True, 1, 1)


def test_a_member_without_a_result_is_an_error_instead_of_an_endless_wait(shop):
    result = chord([shop.add.s(1), shop.ignores.s()], shop.total.s()).apply_async()
    assert "has no result" in error_of(shop, result)


def test_a_link_that_raises_ignore_ends_the_chord_that_waits_for_its_successors(shop):
    """They never come: the batch, the chain and the chord waited for ever."""
    links = [shop.add.s(1), shop.ignores.si(), shop.add.si(1)]
    batch, order = shop.app.batch([links, links[:2]]).dispatch(), shop.app.chain(*links).dispatch()
    result = chord([chain(*links), shop.add.s(1)], shop.total.s()).apply_async()
    assert "Dependency" in error_of(shop, result)
    eventually(lambda: batch.refresh().finished and order.refresh().finished)
    assert (batch.completed, batch.dropped, order.completed, order.dropped) == (1, 1, 1, 1)


def test_a_member_that_is_delivered_twice_counts_once_and_the_body_runs_once(shop):
    result = chord([shop.add.s(1), shop.add.s(2).set(countdown=3600)], shop.total.s()).apply_async()
    queue = shop.app.conf.task_default_queue
    driver = driver_of(shop.app)
    [late] = driver.peek(queue, State.DELAYED)
    driver.put(
        [NewJob(queue, late.payload.replace('"eta"', '"eta_was"'), late.id) for _ in range(2)]
    )
    assert get(result) == 3
    joined = f"{result.parent.id}.joined"
    assert driver.delete([late.id])
    eventually(lambda: idle(driver, queue))
    row = shop.app.batches.find(result.parent.id)
    assert (row.total, row.completed) == (2, 2)
    assert [end.member for end in batches.ended_members(shop.store, row.id)] == [0, 1]
    assert of("total") == [[[1, 2]]]
    # The job that ends it, once more.
    sending = row.row.callbacks["finally"][0]
    driver.put([NewJob(queue, sending["payload"], joined)])
    eventually(lambda: idle(driver, queue))
    assert of("total") == [[[1, 2]]]


def test_a_link_that_is_delivered_twice_starts_its_chord_once(shop):
    flow = chain(
        shop.add.s(1).set(countdown=3600), group(shop.add.s(1), shop.add.s(2)), shop.total.s()
    )
    result = flow.apply_async()
    queue = shop.app.conf.task_default_queue
    driver = driver_of(shop.app)
    [late] = driver.peek(queue, State.DELAYED)
    before = len(shop.app.batches.page())
    for _ in range(2):
        driver.put([NewJob(queue, late.payload.replace('"eta"', '"eta_was"'), late.id)])
    assert get(result) == 5
    eventually(lambda: idle(driver, queue))
    driver.delete([late.id])
    assert len(shop.app.batches.page()) == before + 1
    assert of("total") == [[[2, 3]]]


def test_a_batch_that_can_not_be_nested_is_an_error(shop):
    with pytest.raises(OptionError, match="got a chord"):
        shop.app.batch([shop.add.s(1)]).then(chord([shop.add.si(1)], shop.total.si([]))).dispatch()
    with pytest.raises(OptionError, match="signature or a chain"):
        shop.app.batch([chord([shop.add.s(1)], shop.total.s())]).dispatch()
