"""Each assertion about single jobs, when it holds and when it fails with a list of jobs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relevo import clock
from relevo.errors import OptionError


@pytest.fixture
def soon():
    return clock.utc(clock.now()) + timedelta(hours=1)


@pytest.fixture
def dispatched(queue, process, send, soon):
    """process(7), process(8, size=150) delayed on low, send('ada') at a time, send('bob') with
    headers.
    """
    process.dispatch(7)
    process.on_queue("low").delay_for(60).dispatch(8, size=150)
    send.at(soon).dispatch("ada")
    send.apply_async(("bob",), headers={"trace": "1"}, priority=3, time_limit=30)
    return queue


HOLDS = [
    lambda q: q.assert_dispatched("shop.resize"),
    lambda q: q.assert_dispatched("shop.resize", times=2),
    lambda q: q.assert_dispatched("shop.resize", args=(7,), kwargs={}),
    lambda q: q.assert_dispatched(
        "shop.resize", 1, where=lambda job: job.kwargs.get("size") == 150
    ),
    lambda q: q.assert_dispatched_once("shop.mail", args=["ada"]),
    lambda q: q.assert_not_dispatched("math.add"),
    lambda q: q.assert_not_dispatched("shop.resize", args=(9,)),
    lambda q: q.assert_count(4),
    lambda q: q.assert_count(2, "shop.mail"),
    lambda q: q.assert_dispatched_on("high", "shop.resize"),
    lambda q: q.assert_dispatched_on("low", "shop.resize", times=1, args=(8,)),
    lambda q: q.assert_not_dispatched_on("low", "shop.mail"),
    lambda q: q.assert_not_dispatched_on("nowhere"),
    lambda q: q.assert_dispatched_delayed("shop.resize"),
    lambda q: q.assert_dispatched_delayed("shop.resize", 60, times=1),
    lambda q: q.assert_dispatched_delayed("shop.mail", 3600),
    lambda q: q.assert_dispatched_delayed("shop.mail", where=lambda job: 3590 < job.delay < 3610),
    lambda q: q.assert_not_delayed("shop.resize", args=(7,)),
    lambda q: q.assert_dispatched_with_options("shop.mail", priority=3, timeout=30),
    lambda q: q.assert_dispatched_with_tags("shop.resize", "file:8"),
    lambda q: q.assert_dispatched_with_headers("shop.mail", trace="1"),
    lambda q: q.assert_dispatched_in_order(["shop.resize", "shop.mail"]),
    lambda q: q.assert_dispatched_in_order(
        ["shop.resize", "shop.resize", "shop.mail", "shop.mail"]
    ),
]


@pytest.mark.parametrize("holds", HOLDS)
def test_an_assertion_that_holds_raises_nothing(dispatched, holds):
    holds(dispatched)


FAILS = [
    (lambda q: q.assert_dispatched("math.add"), "expected 'math.add' to be dispatched"),
    (
        lambda q: q.assert_dispatched("shop.resize", times=3),
        "expected 'shop.resize' to be dispatched 3 times, it was 2 times",
    ),
    (
        lambda q: q.assert_dispatched("shop.resize", args=(9,)),
        "expected 'shop.resize' with args (9,) to be dispatched",
    ),
    (
        lambda q: q.assert_dispatched("shop.resize", kwargs={"size": 1}),
        "with kwargs {'size': 1} to be dispatched",
    ),
    (
        lambda q: q.assert_dispatched("shop.resize", where=lambda job: False),
        "where the predicate is true",
    ),
    (lambda q: q.assert_dispatched_once("shop.resize"), "to be dispatched once, it was 2 times"),
    (
        lambda q: q.assert_not_dispatched("shop.mail"),
        "expected 'shop.mail' not to be dispatched, it was 2 times",
    ),
    (
        lambda q: q.assert_not_dispatched("shop.mail", args=("ada",)),
        "expected 'shop.mail' with args ('ada',) not to be dispatched, it was once",
    ),
    (lambda q: q.assert_nothing_dispatched(), "expected nothing to be dispatched"),
    (lambda q: q.assert_count(3), "expected 3 jobs to be dispatched, got 4"),
    (
        lambda q: q.assert_count(1, "shop.mail"),
        "expected 1 jobs of 'shop.mail' to be dispatched, got 2",
    ),
    (
        lambda q: q.assert_dispatched_on("low", "shop.mail"),
        "expected 'shop.mail' to be dispatched on 'low'",
    ),
    (
        lambda q: q.assert_dispatched_on("high", "shop.resize", times=2),
        "to be dispatched on 'high' 2 times, it was once",
    ),
    (lambda q: q.assert_not_dispatched_on("low"), "expected nothing to be dispatched on 'low'"),
    (
        lambda q: q.assert_not_dispatched_on("low", "shop.resize"),
        "expected no 'shop.resize' to be dispatched on 'low'",
    ),
    (lambda q: q.assert_dispatched_delayed("shop.resize", 61), "to be dispatched delayed by 61 s"),
    (
        lambda q: q.assert_dispatched_delayed("shop.resize", args=(7,)),
        "with args (7,) to be dispatched delayed",
    ),
    (lambda q: q.assert_dispatched_delayed("shop.mail", 3598), "delayed by 3598 s"),
    (
        lambda q: q.assert_not_delayed("shop.resize"),
        "'shop.resize' to be dispatched without a delay",
    ),
    (lambda q: q.assert_not_delayed("math.add"), "expected 'math.add' to be dispatched"),
    (
        lambda q: q.assert_dispatched_with_options("shop.mail", priority=3, timeout=31),
        "to be dispatched with priority=3, timeout=31",
    ),
    (lambda q: q.assert_dispatched_with_options("shop.mail", expires=None), "with expires=None"),
    (
        lambda q: q.assert_dispatched_with_tags("shop.resize", "file:7", "file:8"),
        "with tags ['file:7', 'file:8']",
    ),
    (
        lambda q: q.assert_dispatched_with_headers("shop.mail", trace="2"),
        "with headers {'trace': '2'}",
    ),
    (
        lambda q: q.assert_dispatched_in_order(["shop.mail", "shop.resize"]),
        "expected this order: shop.mail, shop.resize; there is no shop.resize in its place",
    ),
]


@pytest.mark.parametrize(("fails", "message"), FAILS)
def test_a_failed_assertion_lists_the_dispatched_jobs(dispatched, fails, message):
    with pytest.raises(AssertionError) as said:
        fails(dispatched)
    expected, listing = str(said.value).split("\n", 1)
    assert message in expected
    assert listing.splitlines()[:3] == [
        "what was dispatched:",
        "  1. shop.resize(7) on 'high', tags ['file:7']",
        "  2. shop.resize(8, size=150) on 'low', delayed 60 s, tags ['file:8']",
    ]
    assert listing.splitlines()[-1] == "  4. shop.mail('bob') on 'default', timeout=30, priority=3"


def test_a_failed_assertion_says_when_nothing_was_dispatched(queue, send):
    queue.assert_nothing_dispatched()
    with pytest.raises(
        AssertionError, match=r"expected 'shop.mail' to be dispatched\nnothing was dispatched"
    ):
        queue.assert_dispatched(send)


def test_a_long_list_is_cut_short(queue, send):
    for number in range(40):
        send.delay(number)
    with pytest.raises(AssertionError, match="and 10 more"):
        queue.assert_nothing_dispatched()


def test_a_job_delayed_to_a_datetime_can_be_asserted(dispatched, send, soon):
    dispatched.assert_dispatched_delayed(send, at=soon)
    with pytest.raises(AssertionError, match="delayed to"):
        dispatched.assert_dispatched_delayed(send, at=soon + timedelta(minutes=1))
    with pytest.raises(OptionError, match="expected seconds or at, got both"):
        dispatched.assert_dispatched_delayed(send, 60, at=soon)


def test_a_delay_of_zero_or_into_the_past_is_no_delay(queue, send):
    send.apply_async(("ada",), countdown=0)
    send.apply_async(("ada",), eta=clock.utc(clock.now() - 60))
    queue.assert_not_delayed(send)
    with pytest.raises(AssertionError):
        queue.assert_dispatched_delayed(send)


def test_options_of_relevo_and_of_celery(app, queue):
    @app.task(name="patient", shared=False, tries=3)
    def patient(): ...

    patient.with_options(tries=5, backoff=[1, 10]).dispatch()
    queue.assert_dispatched_with_options(patient, tries=5, backoff=[1, 10])
    patient.apply_async(expires=60, ignore_result=True)
    queue.assert_dispatched_with_options(patient, expires=60, ignore_result=True)


def test_order_with_arguments_and_the_returned_records(dispatched, process, send):
    dispatched.assert_dispatched_in_order([process.s(7), send.s("ada"), send.s("bob")])
    with pytest.raises(AssertionError, match=r"there is no shop\.resize\(7\) in its place"):
        dispatched.assert_dispatched_in_order([process.s(8, size=150), process.s(7)])
    assert [job.args for job in dispatched.assert_dispatched(send)] == [("ada",), ("bob",)]
    assert dispatched.assert_dispatched_once(process, args=(7,)).queue == "high"
    assert [job.args for job in dispatched.dispatched(process, where=lambda job: job.delay)] == [
        (8,)
    ]
