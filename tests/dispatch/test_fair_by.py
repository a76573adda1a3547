"""The key of a job in a fair queue, made by `fair_by`, on its way to the broker and through
retries.
"""

from __future__ import annotations

import json
import uuid

import pytest

from relevo import config, drivers
from relevo.app import create_app
from relevo.dispatch.delivery import outbox_entry
from relevo.dispatch.sendings import new_job
from relevo.drivers import message_codec
from relevo.drivers.contract import State
from relevo.errors import OptionError
from relevo.operations import retry
from relevo.store.failed import FailedJob
from relevo.transport import registration


@pytest.fixture
def shop():
    """An app on a broker in memory."""
    url = f"relevo://memory/{uuid.uuid4()}"
    app = create_app("shop", config.load({"QUEUE_RESULTS": "none"}, env_file=None), broker_url=url)
    registration.register_transport()
    app.driver = drivers.driver_for(url)
    yield app
    app.close()


def report(app, **options):
    @app.task(
        name=f"report-{uuid.uuid4().hex[:6]}", shared=False, **{"fair_by": ["tenant"], **options}
    )
    def generate(tenant, number=0): ...

    return generate


def order(app):
    views = app.driver.peek(app.conf.task_default_queue, State.PENDING)
    return [json.loads(json.loads(view.payload)["body"])[0] for view in views]


def test_tenants_take_turns_over_all_tasks_that_say_the_same(shop):
    one, other = report(shop), report(shop, fair_by=lambda tenant, **_: tenant)
    for number in range(3):
        one.dispatch("a", number)
    other.dispatch("b")
    other.dispatch("a")
    assert order(shop) == [["a", 0], ["b"], ["a", 1], ["a", 2], ["a"]]


def test_a_dispatch_may_name_another_fair_key(shop):
    generate = report(shop)
    generate.dispatch("a", 1)
    generate.dispatch("a", 2)
    generate.with_options(fair_by=["number"]).dispatch("a", 3)
    assert order(shop) == [["a", 1], ["a", 3], ["a", 2]]


def test_a_retried_failed_job_takes_its_tenants_turn(shop):
    generate = report(shop)
    generate.dispatch("b")
    [job] = shop.driver.reserve([shop.conf.task_default_queue], 1, 30, "worker")
    shop.driver.ack([job.lease])
    for number in range(2):
        generate.dispatch("a", number)
    retry.put_jobs(
        shop,
        [
            FailedJob(
                uuid=job.id,
                task=generate.name,
                connection="its own",
                queue=job.queue,
                exception="E",
                payload=job.payload,
                message="m",
                failed_at=1.0,
            )
        ],
    )
    assert shop.driver.find([job.id])[0].payload.count('"fair"') == 1
    assert order(shop) == [["a", 0], ["b"], ["a", 1]]


def test_a_long_key_is_hashed_and_keys_of_different_types_differ(shop):
    generate = report(shop)
    for tenant in ("x" * 1000, "y" * 1000, 1, "1", None, {"a": 1}):
        for number in (1, 2):
            generate.dispatch(tenant, number)
    assert [arguments[1] for arguments in order(shop)] == [1] * 6 + [2] * 6


def test_the_fair_key_survives_a_message_that_is_published_again(shop):
    report(shop).dispatch("a")
    [view] = shop.driver.peek(shop.conf.task_default_queue, State.PENDING)
    made = message_codec.to_job("q", json.loads(view.payload))
    assert made.fair_key == '"a"'
    assert new_job(outbox_entry(made, "database")).fair_key == '"a"'
    again = message_codec.repack(view.payload, {"retries": 1})
    assert message_codec.fair_key_of(message_codec.headers_of(again)) == '"a"'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"fair_by": "tenant"},
            "expected fair_by to be a list of names of arguments or a callable",
        ),
        ({"fair_by": 7}, "got 7"),
        (
            {"fair_by": ["tenat"]},
            "expected fair_by to name arguments of task 'strict'; did you mean 'tenant'?",
        ),
    ],
)
def test_an_invalid_fair_by_is_refused_where_it_is_given(shop, options, message):
    def body(tenant): ...

    with pytest.raises(OptionError) as refused:
        shop.task(name="strict", shared=False, **options)(body).run("a")
    assert message in str(refused.value)


def test_a_callable_that_fails_is_an_error_of_the_dispatch(shop):
    generate = report(shop, fair_by=lambda tenant, **_: tenant["id"])
    with pytest.raises(
        OptionError, match=r"the fair key of task 'report-\w+' can't be made: KeyError\('id'\)"
    ):
        generate.dispatch({})
    assert order(shop) == []


@pytest.mark.parametrize("said", [7, "", "x" * 256, None, ["a"]])
def test_invalid_values_in_a_foreign_message_are_ignored(said):
    message = {"headers": {"id": "1", "relevo": {"fair": said}}, "properties": {}}
    assert message_codec.to_job("q", message).fair_key is None


def test_a_key_made_of_redacted_arguments_is_hidden(shop):
    hidden, seen = report(shop, fair_by=["tenant"], redact=["tenant"]), report(shop)
    called = report(shop, fair_by=lambda tenant, **_: tenant, redact=True)
    for task in (hidden, called, seen):
        task.delay("acme")
        task.delay("acme")
    keys = [
        json.loads(view.payload)["headers"]["relevo"]["fair"]
        for view in shop.driver.peek(shop.conf.task_default_queue, State.PENDING)
    ]
    assert sum("acme" in key for key in keys) == 2
    assert len(set(keys)) == 2
