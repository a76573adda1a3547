"""The second dispatch of a key: dropped, its arguments taken over, or the latest of a
series wins.
"""

from __future__ import annotations

import uuid

import pytest

from relevo import config, drivers
from relevo.app import create_app
from relevo.drivers import message_codec
from relevo.drivers.contract import State
from relevo.errors import OptionError
from relevo.transport import registration
from tests.support.waits import LONG


@pytest.fixture
def shop():
    """An app on a broker in memory."""
    url = f"relevo://memory/{uuid.uuid4()}"
    app = create_app("shop", config.load({"QUEUE_RESULTS": "none"}, env_file=None), broker_url=url)
    registration.register_transport()
    app.driver = drivers.driver_for(url)
    yield app
    app.close()


def index_task(app, **options):
    @app.task(name="search.index", shared=False, **{"unique_by": ["page"], **options})
    def index(page, text=None): ...

    return index


def consumed(app):
    """The next message of a worker: the id, the arguments, and the calls that its task may make."""
    seen = []
    with (
        app.connection_for_read() as connection,
        app.amqp.TaskConsumer(
            connection, on_message=lambda message: (seen.append(message), message.ack())
        ),
    ):
        connection.drain_events(timeout=LONG)
    return seen[0]


def delays(app):
    now = app.driver.now()
    views = app.driver.peek(app.conf.task_default_queue, State.DELAYED)
    return [round(view.available_at - now) for view in views]


def test_the_next_dispatch_replaces_the_arguments_and_keeps_the_id(shop):
    index = index_task(shop, on_conflict="replace")
    first, second = index.dispatch(1, "old"), index.dispatch(1, text="new")
    assert (second.id, second.is_duplicate, second.has_replaced) == (first.id, True, True)
    assert (first.is_duplicate, first.has_replaced) == (False, False)
    message = consumed(shop)
    assert message.payload[:2] == [[1], {"text": "new"}]
    assert [
        message.headers["id"],
        message.headers["root_id"],
        message.properties["correlation_id"],
    ] == [first.id] * 3


def test_a_dispatch_with_a_delay_moves_the_job_and_one_without_leaves_its_time(shop):
    index = index_task(shop, on_conflict="replace")
    index.delay_for(100).dispatch(1)
    index.dispatch(1)
    assert delays(shop) == [100]
    index.delay_for(50).dispatch(1)
    assert delays(shop) == [50]


def test_a_dispatch_during_the_run_is_a_duplicate(shop):
    index = index_task(shop, on_conflict="replace")
    index.dispatch(1, "old")
    [job] = shop.driver.reserve([shop.conf.task_default_queue], 1, 30, "worker")
    second = index.dispatch(1, "new")
    assert (second.is_duplicate, second.has_replaced) == (True, False)
    shop.driver.release([job.lease])
    assert consumed(shop).payload[0] == [1, "old"]


def test_each_dispatch_puts_a_debounced_job_off_and_the_last_wins(shop):
    index = index_task(shop, debounce=30, debounce_max=3600)
    results = [index.dispatch(1, text) for text in ("a", "b", "c")]
    assert [result.has_replaced for result in results] == [False, True, True]
    assert delays(shop) == [30]
    index.dispatch(2)
    assert delays(shop) == [30, 30]
    shop.driver.hasten([results[0].id])
    message = consumed(shop)
    assert (message.headers["id"], message.payload[0], message.headers["eta"]) == (
        results[0].id,
        [1, "c"],
        None,
    )


def test_a_debounced_job_frees_its_key_when_it_starts(shop):
    index = index_task(shop, debounce=30)
    first = index.dispatch(1, "a")
    shop.driver.hasten([first.id])
    consumed(shop)
    second = index.dispatch(1, "b")
    assert not second.is_duplicate
    assert delays(shop) == [30]


def test_a_dispatch_between_the_reservation_and_the_start_is_not_missed(shop):
    index = index_task(shop, debounce=30)
    first = index.dispatch(1, "a")
    shop.driver.hasten([first.id])
    shop.driver.reserve([shop.conf.task_default_queue], 1, 30, "worker")
    assert not index.dispatch(1, "b").is_duplicate


def test_a_delay_of_the_dispatch_replaces_the_debounce(shop):
    index_task(shop, debounce=30).delay_for(100).dispatch(1)
    assert delays(shop) == [100]


def test_a_dispatch_without_a_key_is_not_debounced(shop):
    index_task(shop, debounce=30).with_options(unique_by=False).dispatch(1)
    assert delays(shop) == []


def test_a_debounced_job_with_callbacks_is_refused(shop):
    index = index_task(shop, debounce=30)
    for following in (
        {"link": index.s(2)},
        {"link_error": index.s(2)},
        {"chain": [index.s(2)]},
        {"group_id": "g"},
    ):
        with pytest.raises(OptionError, match=f"so it can have no {next(iter(following))}"):
            index.apply_async((1,), **following)
    index.with_options(unique_by=False).task.apply_async((1,), link=index.s(2), unique_by=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_conflict": "replace"}, "expected unique_by beside on_conflict"),
        ({"debounce": 5}, "expected unique_by beside debounce"),
        (
            {"unique_by": [], "on_conflict": "raise"},
            "expected on_conflict to be 'keep' or 'replace', got 'raise'",
        ),
        (
            {"unique_by": [], "debounce": 0},
            "expected debounce to be a positive number of seconds, got 0",
        ),
        ({"unique_by": [], "debounce": True}, "expected debounce to be a positive number"),
        ({"unique_by": [], "debounce": float("nan")}, "expected debounce to be a positive number"),
        ({"unique_by": [], "debounce_max": 5}, "expected debounce beside debounce_max"),
        (
            {"unique_by": [], "debounce": 5, "debounce_max": 4},
            "expected debounce_max to be no less than debounce=5",
        ),
        (
            {"unique_by": [], "debounce": 5, "unique_until": "done"},
            "expected unique_until or debounce, got both",
        ),
        (
            {"unique_by": [], "debounce": 5, "on_conflict": "keep"},
            "expected on_conflict or debounce, got both",
        ),
        (
            {"unique_by": [], "debounce": 5, "unique_for": 9},
            "expected unique_for or debounce, got both",
        ),
    ],
)
def test_invalid_options_are_refused_where_they_are_given(shop, options, message):
    with pytest.raises(OptionError) as refused:
        shop.task(name="strict", shared=False, **options)(lambda: None)
    assert message in str(refused.value)


def test_a_dispatch_can_not_change_how_its_task_handles_duplicates(shop):
    with pytest.raises(OptionError, match="'debounce' can't be given at dispatch"):
        index_task(shop).with_options(debounce=5)


@pytest.mark.parametrize(
    "said", [{"on": "never"}, {"on": 7}, {"on": ["replace"]}, {"wait": "5"}, {"most": -1}]
)
def test_invalid_values_in_a_foreign_message_are_ignored(said):
    message = {"headers": {"id": "1", "relevo": {"unique": {"key": "k", **said}}}, "properties": {}}
    made = message_codec.to_job("q", message)
    assert (made.on_conflict, made.max_delay, made.available_at) == ("keep", None, None)
