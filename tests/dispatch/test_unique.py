"""Unique jobs: the key of a dispatch, its result, and that no key outlives its job on
any broker.
"""

from __future__ import annotations

import json
import uuid

import pytest
from pydantic import BaseModel

import relevo
from relevo import config, drivers, events
from relevo.app import create_app
from relevo.drivers import message_codec
from relevo.drivers.contract import State
from relevo.errors import OptionError
from relevo.operations import retry
from relevo.store import failed
from relevo.store.failed import EVERY_JOB
from relevo.store.outcomes import Ending, write
from relevo.store.store import store_for
from relevo.transport import registration
from tests.support.waits import LONG

BROKERS = ["memory", "sqlite", "postgresql", "mariadb", "redis"]


class Order(BaseModel):
    number: int


@pytest.fixture(params=BROKERS)
def shop(request, tmp_path):
    """An app on one broker after the other."""
    memory = f"relevo://memory/{uuid.uuid4()}"
    url = memory if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    yield from app_on(url, tmp_path)


@pytest.fixture
def quick(tmp_path):
    """An app on a broker in memory."""
    yield from app_on(f"relevo://memory/{uuid.uuid4()}", tmp_path)


def app_on(url, folder):
    settings = config.load(
        {"QUEUE_RESULTS": "none", "DATABASE_URL": f"sqlite:///{folder}/store.db"}, env_file=None
    )
    app = create_app("shop", settings, broker_url=url, task_default_queue=f"unique-{uuid.uuid4()}")
    registration.register_transport()
    driver = drivers.driver_for(url)
    if hasattr(driver, "create_schema"):
        driver.create_schema()
    app.driver = driver
    yield app
    app.close()


@pytest.fixture
def deliver(shop):
    return defined(shop)


def nothing(*args): ...


def defined(app, **options):
    @app.task(
        name=f"deliver-{uuid.uuid4().hex[:6]}", shared=False, **{"unique_by": ["url"], **options}
    )
    def deliver(url, body=None, **more): ...

    return deliver


def waiting(app, state=State.PENDING):
    return [view.id for view in app.driver.peek(app.conf.task_default_queue, state)]


def take(app):
    [job] = app.driver.reserve([app.conf.task_default_queue], 1, 30, "worker")
    return job


def test_the_second_dispatch_returns_the_first_job(shop, deliver):
    first, second = deliver.dispatch("a", 1), deliver.delay("a", 2)
    assert (first.is_duplicate, second.is_duplicate) == (False, True)
    assert second == first
    assert (str(second), second.task_id) == (first.id, first.id)
    assert not deliver.dispatch("b").is_duplicate
    assert len(waiting(shop)) == 2


def test_the_key_is_free_when_the_job_has_ended_in_any_way(shop, deliver):
    for end in ("ack", "delete", "clear"):
        job = deliver.dispatch("a")
        assert not job.is_duplicate
        match end:
            case "ack":
                shop.driver.ack([take(shop).lease])
            case "delete":
                shop.driver.delete([job.id])
            case "clear":
                shop.driver.clear(shop.conf.task_default_queue)
    assert not deliver.dispatch("a").is_duplicate


def test_the_key_is_held_while_the_job_is_delayed_and_after_a_release(shop, deliver):
    deliver.delay_for(60).dispatch("a")
    assert deliver.dispatch("a").is_duplicate
    shop.driver.hasten(waiting(shop, State.DELAYED))
    job = take(shop)
    again_ = message_codec.repack(job.payload, {"retries": 1})
    shop.driver.release([job.lease], 0, again_, 1)
    assert deliver.dispatch("a").is_duplicate


def test_results_of_a_bulk_dispatch_are_known_when_it_is_put(shop, deliver):
    with shop.producer_or_acquire() as producer, producer.batch():
        results = [deliver.apply_async((url,), producer=producer) for url in "aab"]
        assert not any(result.is_duplicate for result in results)
    assert [result.is_duplicate for result in results] == [False, True, False]
    assert results[1].id == results[0].id
    assert len(waiting(shop)) == 2


def test_a_failed_job_is_retried_unless_another_has_its_key(shop, deliver):
    # Given two failed jobs, and a living one that has the key of the first
    store = store_for(shop.settings.database_url)
    for url in "ab":
        deliver.dispatch(url)
        job = take(shop)
        write(store, [Ending(failure=failure_of(shop, job), listed=False)])
        shop.driver.ack([job.lease])
    living = deliver.dispatch("a")

    # When all are retried, twice
    assert [
        retry.retry_failed(shop, store, EVERY_JOB),
        retry.retry_failed(shop, store, EVERY_JOB),
    ] == [
        1,
        0,
    ]

    # I expect the second to be sent and to have its key again, and the first to be there still
    [first] = [job for job in failed.page(store) if job.retried_at is None]
    assert "a" in first.payload
    assert deliver.dispatch("b").is_duplicate
    shop.driver.delete([living.id])
    assert retry.retry_failed(shop, store, EVERY_JOB) == 1


def failure_of(app, job, task="t", **more):
    return failed.FailedJob(
        uuid=job.id,
        task=task,
        connection="its own",
        queue=job.queue,
        payload=job.payload,
        exception="E",
        message="m",
        failed_at=1.0,
        **more,
    )


def fails(app, task, **more):
    """The next job fails. Returns the number of the failed job."""
    job, store = take(app), store_for(app.settings.database_url)
    write(store, [Ending(failure=failure_of(app, job, task.name, **more), listed=False)])
    app.driver.ack([job.lease])
    return failed.page(store)[0].id


def test_a_failed_job_retried_with_other_arguments_has_their_key(quick):
    task, store = defined(quick, fair_by=["body"]), store_for(quick.settings.database_url)
    task.dispatch("a", "one")
    assert retry.retry_with_arguments(quick, store, fails(quick, task), ["b", "two"], {})
    assert (task.dispatch("a").is_duplicate, task.dispatch("b").is_duplicate) == (False, True)
    assert message_codec.fair_key_of(message_codec.headers_of(take(quick).payload)) == '"two"'


def test_options_of_the_dispatch_stay_when_the_arguments_change(quick):
    task, store = defined(quick, tags=lambda url, *_: [url]), store_for(quick.settings.database_url)
    task.with_options(tags=["mine"], unique_by=["body"]).dispatch("a", 1)
    key = message_codec.unique_of(
        message_codec.headers_of(quick.driver.find(waiting(quick))[0].payload)
    )["key"]
    assert retry.retry_with_arguments(quick, store, fails(quick, task), ["b", 2], {})
    headers = message_codec.headers_of(take(quick).payload)
    assert (headers["relevo"]["tags"], headers["relevo"]["unique"]["key"]) == (["mine"], key)


def test_a_failed_job_whose_new_key_is_taken_stays_failed(quick):
    task, store = defined(quick), store_for(quick.settings.database_url)
    task.dispatch("a")
    number, living = fails(quick, task), task.dispatch("b")
    assert not retry.retry_with_arguments(quick, store, number, ["b"], {})
    quick.driver.delete([living.id])
    assert retry.retry_with_arguments(quick, store, number, ["b"], {})


def test_failed_members_of_a_batch_are_retried_even_if_their_key_is_taken(quick):
    task, store = defined(quick), store_for(quick.settings.database_url)
    made = quick.batch([task.s("a"), task.s("a")]).allow_failures().dispatch()
    for _ in range(2):
        fails(quick, task, batch=made.id)
    task.dispatch("a")
    assert made.retry_failed() == 2
    assert len(waiting(quick)) == 3
    assert retry.retry_failed(quick, store, EVERY_JOB) == 0


class TestTheKey:
    def key(self, task, *args, **kwargs):
        sent = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task.app, "send_task", lambda *_, **options: sent.update(options))
            task.apply_async(args, kwargs)
        return sent["headers"]["relevo"]["unique"]["key"]

    def test_the_key_is_made_of_the_named_arguments_by_position_or_by_name(self, quick):
        task = defined(quick, unique_by=["url", "body"])
        keys = {
            self.key(task, "a"),
            self.key(task, url="a"),
            self.key(task, "a", None),
            self.key(task, "a", other=1),
        }
        assert len(keys) == 1
        assert self.key(task, "a", 1) not in keys

    def test_a_name_may_be_one_of_the_keyword_arguments_without_a_parameter(self, quick):
        task = defined(quick, unique_by=["store"])
        assert (
            self.key(task, "a", store=1)
            == self.key(task, "b", store=1)
            != self.key(task, "a", store=2)
        )

    def test_without_names_there_is_one_job_of_the_task(self, quick):
        task = defined(quick, unique_by=[])
        assert self.key(task, "a") == self.key(task, "b")

    def test_a_callable_makes_the_key_of_the_arguments(self, quick):
        task = defined(quick, unique_by=lambda url, *_, **__: url.lower())
        assert self.key(task, "A") == self.key(task, "a") != self.key(task, "b")

    def test_two_tasks_never_share_a_key_and_a_key_is_short(self, quick):
        one, other = defined(quick), defined(quick)
        assert self.key(one, "a") != self.key(other, "a")
        assert len(self.key(one, "a" * 1_000_000)) < 255
        assert len(self.key(one, "\ud800\0")) < 255

    def test_keys_of_numbers_and_texts_differ(self, quick):
        task = defined(quick)
        assert len({self.key(task, each) for each in (1, "1", None, "None", [1], {"1": 1})}) == 6

    def test_the_self_of_a_bound_task_is_not_part_of_the_key(self, quick):
        @quick.task(bind=True, unique_by=["number"], shared=False, name="bound")
        def bound(self, number): ...

        assert self.key(bound, 1) == self.key(bound, number=1)

    def test_a_class_based_task_has_a_key(self, quick):
        class Deliver(quick.Task):
            name, unique_by = "classy", ["number"]

            def run(self, number): ...

        task = quick.register_task(Deliver)
        assert self.key(task, 1) == self.key(task, number=1)

    def test_pydantic_models_count_as_what_they_hold(self, quick):
        @quick.task(pydantic=True, unique_by=["order"], shared=False, name="pydantic")
        def ship(order: Order): ...

        assert (
            self.key(ship, Order(number=1))
            == self.key(ship, {"number": 1})
            != self.key(ship, Order(number=2))
        )

    def test_a_key_that_can_not_be_made_is_an_error_of_the_dispatch(self, quick):
        task = defined(quick, unique_by=lambda url, **_: url["id"])
        with pytest.raises(
            OptionError,
            match=r"the unique key of task 'deliver-\w+' can't be made: KeyError\('id'\)",
        ):
            task.dispatch({})
        with pytest.raises(OptionError, match="can't be made: "):
            defined(quick).dispatch(object())


class TestUntilAndFor:
    def test_a_key_can_be_free_after_a_time(self, quick, monkeypatch):
        task = defined(quick, unique_for=60)
        first = task.dispatch("a")
        now = relevo.clock.now()
        monkeypatch.setattr(quick.driver, "_clock", lambda: now + 61)
        second = task.dispatch("a")
        assert not second.is_duplicate
        assert task.dispatch("a") == second
        assert waiting(quick) == [first.id, second.id]

    @pytest.mark.parametrize(("until", "is_free"), [("done", False), ("start", True)])
    def test_a_key_can_be_free_when_the_job_starts(self, quick, until, is_free):
        task = defined(quick, unique_until=until)
        first = task.dispatch("a")
        assert task.dispatch("a").is_duplicate
        seen = []
        with (
            quick.connection_for_read() as connection,
            quick.amqp.TaskConsumer(
                connection,
                on_message=lambda message: seen.append(
                    (message.headers["id"], task.dispatch("a").is_duplicate)
                ),
            ),
        ):
            connection.drain_events(timeout=LONG)
        assert seen == [(first.id, not is_free)]

    def test_while_the_broker_is_away_a_job_that_must_free_its_key_does_not_start(
        self, quick, monkeypatch
    ):
        task = defined(quick, unique_until="start")
        task.dispatch("a")
        unlock, away = quick.driver.unlock, [True, False]

        def unlock_later(leases):
            if away.pop(0):
                raise relevo.DriverUnavailableError
            return unlock(leases)

        monkeypatch.setattr(quick.driver, "unlock", unlock_later)
        seen = []
        with (
            quick.connection_for_read() as connection,
            quick.amqp.TaskConsumer(
                connection, on_message=lambda message: seen.append(task.dispatch("a").is_duplicate)
            ),
        ):
            connection.drain_events(timeout=LONG)
        assert (seen, away) == ([False], [])


class TestOneDispatch:
    def test_a_dispatch_may_have_another_key_or_none(self, quick):
        task = defined(quick)
        assert not task.dispatch("a").is_duplicate
        assert not task.with_options(unique_by=["url", "body"]).dispatch("a").is_duplicate
        assert not task.with_options(unique_by=False).dispatch("a").is_duplicate
        assert task.with_options(unique_for=600).dispatch("a").is_duplicate
        plain = quick.task(name="plain", shared=False)(nothing)
        assert [plain.with_options(unique_by=[]).dispatch(1).is_duplicate for _ in range(2)] == [
            False,
            True,
        ]

    def test_a_plain_job_is_never_a_duplicate(self, quick):
        plain = quick.task(name="plain", shared=False)(nothing)
        assert not plain.delay().is_duplicate
        assert not plain.AsyncResult("x").is_duplicate

    def test_a_duplicate_raises_no_event(self, quick):
        heard = []
        listener = events.on("dispatched")(lambda event: heard.append(event.id))
        try:
            task = defined(quick)
            first = task.dispatch("a")
            task.dispatch("a")
        finally:
            events.remove(listener)
        assert heard == [first.id]

    def test_a_retry_by_a_new_message_is_put_beside_its_job(self, quick):
        task = defined(quick)
        task.dispatch("a")
        job = take(quick)
        message = json.loads(job.payload)
        message["headers"]["retries"] = 1
        assert message_codec.to_job("q", message).unique_key is None

    def test_a_job_run_in_place_has_no_key(self, quick):
        task = defined(quick)
        task.dispatch("a")
        assert task.sync("a").state == "SUCCESS"

    @pytest.mark.parametrize(
        "said", [7, [], {"key": 7}, {"key": ""}, {"key": "x" * 256}, {"key": None}]
    )
    def test_invalid_values_in_a_foreign_message_are_ignored(self, said):
        message = {"headers": {"id": "1", "relevo": {"unique": said}}, "properties": {}}
        assert message_codec.to_job("q", message).unique_key is None

    @pytest.mark.parametrize("lasting", ["60", -1, 0, True, float("inf"), float("nan")])
    def test_an_invalid_time_in_a_foreign_message_is_ignored(self, lasting):
        message = {
            "headers": {"id": "1", "relevo": {"unique": {"key": "k", "for": lasting}}},
            "properties": {},
        }
        made = message_codec.to_job("q", message)
        assert (made.unique_key, made.unique_for) == ("k", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"unique_by": "url"},
            "expected unique_by to be a list of names of arguments, a callable that gets the",
        ),
        ({"unique_by": [1]}, "got [1]"),
        ({"unique_by": True}, "got True"),
        (
            {"unique_by": ["ulr"]},
            "to name arguments of task 'strict'; did you mean 'url'?, got 'ulr'",
        ),
        ({"unique_by": ["zzz"]}, "which takes url, body, got 'zzz'"),
        (
            {"unique_by": ["url"], "unique_until": "end"},
            "expected unique_until to be 'done' or 'start', got 'end'",
        ),
        (
            {"unique_by": ["url"], "unique_for": 0},
            "expected unique_for to be a positive number of seconds, got 0",
        ),
        ({"unique_for": 5}, "expected unique_by beside unique_for, got none (task 'strict')"),
        ({"unique_until": "start"}, "expected unique_by beside unique_until"),
    ],
)
def test_invalid_options_are_refused_where_they_are_given(quick, options, message):
    def body(url, body=None): ...

    with pytest.raises(OptionError) as refused:
        quick.task(name="strict", shared=False, **options)(body).run("a")
    assert message in str(refused.value)
    fine = quick.task(name="strict", shared=False)(body)
    with pytest.raises(OptionError) as refused:
        fine.with_options(**options).dispatch("a")
    assert message in str(refused.value)


def test_a_message_of_a_job_that_was_unique_says_so(quick):
    defined(quick, unique_for=5, unique_until="start").dispatch("a")
    sent = json.loads(take(quick).payload)["headers"]["relevo"]["unique"]
    assert sent | {"key": ""} == {"key": "", "for": 5, "until": "start"}
