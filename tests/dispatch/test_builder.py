"""The builder of a dispatch: what reaches Celery, and which dispatches are errors of the caller."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from relevo import clock
from relevo.errors import OptionError

NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def _still_clock(monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def process(app):
    @app.task(name="images.process", tries=3, retry_until=600)
    def process(file_id, size=None): ...

    return process


@pytest.fixture
def plain(app):
    @app.task(name="plain")
    def plain(number): ...

    return plain


def test_dispatch_sends_once_and_at_once(process, sent):
    process.dispatch(7, size=150)
    [message] = sent
    assert (message.name, message.args, message.kwargs) == ("images.process", (7,), {"size": 150})


def test_options_of_the_dispatch_go_before_those_of_the_task(process, sent):
    process.on_queue("high").delay_for(60).dispatch(7)
    assert (sent[0].queue, sent[0].countdown) == ("high", 60)


def test_nothing_is_sent_before_dispatch_and_a_builder_can_be_reused(process, sent):
    high = process.on_queue("high")
    assert not sent
    high.dispatch(1)
    high.delay_for(5).dispatch(2)
    high.dispatch(3)
    assert [
        (message.args, message.countdown) for message in sent if hasattr(message, "countdown")
    ] == [((2,), 5)]
    assert [message.args for message in sent] == [(1,), (2,), (3,)]


def test_at_takes_a_datetime_and_a_naive_one_is_utc(process, sent):
    process.at(datetime(2030, 1, 1, 12)).with_options(retry_until=1e9 * 2).dispatch(7)  # noqa: DTZ001
    assert sent[0].eta == datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_the_last_moment_of_the_calendar_is_one(plain, sent):
    for zone in (None, UTC, timezone(timedelta(hours=-12)), timezone(timedelta(hours=12))):
        plain.at(datetime.max.replace(tzinfo=zone)).dispatch(7)
        plain.at(datetime.min.replace(tzinfo=zone)).dispatch(7)
    assert {message.eta.year for message in sent} == {1, 9999}


def test_the_last_of_two_times_counts(process, sent):
    moment = clock.utc(NOW) + timedelta(seconds=30)
    process.delay_for(60).at(moment).dispatch(7)
    process.at(moment).delay_for(60).dispatch(7)
    assert [(message.countdown, message.eta) for message in sent] == [(None, moment), (60, None)]


def test_when_and_unless_decide_whether_it_is_sent(process, sent):
    assert process.when(False).dispatch(1) is None
    assert process.unless(True).dispatch(2) is None
    assert process.when(True).unless(True).sync(3) is None
    process.when(True).unless(False).dispatch(4)
    assert [message.args for message in sent] == [(4,)]


def test_the_deadline_is_set_at_the_dispatch(process, sent):
    process.delay(7)
    process.with_options(retry_until=60).dispatch(7)
    assert [message.headers["relevo"]["deadline"] for message in sent] == [NOW + 600, NOW + 60]


def test_options_of_one_job_travel_with_it(process, sent):
    process.with_options(tries=5, backoff=[1, 2], timeout=30).dispatch(7)
    assert sent[0].headers["relevo"]["override"] == {"tries": 5, "backoff": [1, 2]}
    assert sent[0].time_limit == 30


def test_apply_async_takes_our_options_beside_the_callers_headers(process, sent):
    process.apply_async((7,), tries=5, headers={"traceparent": "00-1"}, queue="high")
    assert sent[0].headers["relevo"]["override"] == {"tries": 5}
    assert (sent[0].headers["traceparent"], sent[0].queue) == ("00-1", "high")


def test_a_signature_carries_our_options(process, sent):
    process.s(7).set(tries=5).apply_async()
    assert sent[0].headers["relevo"]["override"] == {"tries": 5}


def test_tags_are_made_at_the_dispatch(app, sent):
    @app.task(tags=lambda file_id: [f"file:{file_id}"])
    def process(file_id): ...

    process.dispatch(7)
    assert sent[0].headers["relevo"]["tags"] == ("file:7",)
    with pytest.raises(TypeError, match="file_id"):
        process.dispatch()


def test_tags_that_cannot_be_made_are_an_error_of_the_dispatch(app, sent):
    @app.task(name="images.process", tags=lambda file: [file["id"]])
    def process(file): ...

    with pytest.raises(
        OptionError, match=r"the tags of task 'images.process' can't be made: KeyError\('id'\)"
    ):
        process.dispatch({})
    assert not sent


def test_a_plain_job_carries_nothing(plain, sent):
    plain.delay(7)
    assert not hasattr(sent[0], "headers")


WRONG = [
    (
        lambda task: task.on_queue("hihg"),
        "no queue named 'hihg' in task_queues; did you mean 'high'",
    ),
    (lambda task: task.on_queue(7), "expected queue to be the name of a queue, got 7"),
    (lambda task: task.delay_for(-1), "expected delay_for to be a number of seconds, got -1"),
    (lambda task: task.delay_for("60"), "got '60'"),
    (lambda task: task.delay_for(1e12), "expected delay_for to end before the year 10000"),
    (lambda task: task.at(60), "expected at to be a datetime, got 60"),
    (lambda task: task.with_options(tries=0), "expected tries to be a positive integer, got 0"),
    (
        lambda task: task.with_options(tires=3),
        "'tires' can't be given at dispatch; did you mean 'tries'",
    ),
    (
        lambda task: task.with_options(backoff=lambda n: n).dispatch(),
        "a callable can't travel with a job",
    ),
    (
        lambda task: task.apply_async((), tries="3"),
        "expected tries to be a positive integer, got '3'",
    ),
    (
        lambda task: task.delay_for(600).dispatch(),
        "expected a delay under retry_until=600, got 600 s",
    ),
    (
        lambda task: task.at(clock.utc(NOW + 700)).dispatch(),
        "expected a delay under retry_until=600, got 700 s",
    ),
    (
        lambda task: task.apply_async((), countdown=700),
        "expected a delay under retry_until=600, got 700 s",
    ),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_wrong_dispatch_is_an_error_of_the_caller(app_with_queues, wrong, message):
    @app_with_queues.task(name="images.process", tries=3, retry_until=600)
    def process(): ...

    with pytest.raises(OptionError) as refused:
        wrong(process)
    assert message in str(refused.value)
    assert "images.process" in str(refused.value)


def test_a_task_that_leaves_retries_to_celery_is_not_given_tries_in_vain(plain, sent):
    with pytest.raises(
        OptionError,
        match="task 'plain' leaves retries to Celery, so tries can't be given at dispatch",
    ):
        plain.with_options(tries=3).dispatch(7)
    plain.with_options(timeout=5).dispatch(7)
    assert sent[0].time_limit == 5


def test_where_no_queues_are_declared_any_name_will_do(process, sent):
    process.on_queue("anything").dispatch(7)
    assert sent[0].queue == "anything"
