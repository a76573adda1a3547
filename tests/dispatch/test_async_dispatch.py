"""Dispatching from asyncio: the same as `dispatch`, and the event loop never waits."""

from __future__ import annotations

import asyncio
import gc
import threading
import uuid
import warnings

import pytest
import redis.asyncio
from celery.app.trace import build_tracer
from kombu.exceptions import OperationalError
from sqlalchemy.orm import Session

from relevo import config, drivers
from relevo.app import create_app
from relevo.dispatch.capture import capture
from relevo.drivers import message_codec
from relevo.drivers.contract import State
from relevo.drivers.redis.async_puts import GROUP, AsyncPuts
from relevo.errors import DriverUnavailableError, OptionError
from relevo.testing import fake

BROKERS = ["memory", "sqlite", "postgresql", "mariadb", "redis"]


def app_on(url, folder, **changes):
    settings = config.load(
        {"QUEUE_RESULTS": "none", "DATABASE_URL": f"sqlite:///{folder}/store.db"}, env_file=None
    )
    queue = f"async-{uuid.uuid4()}"
    app = create_app("shop", settings, broker_url=url, task_default_queue=queue, **changes)
    driver = drivers.driver_for(app.conf.broker_url)
    if hasattr(driver, "create_schema"):
        driver.create_schema()
    app.queue = queue

    @app.task(name="plain", shared=False)
    def plain(number=0): ...

    @app.task(name="rich", shared=False, tries=3, tags=lambda n: [f"n:{n}"], unique_by=["n"])
    def rich(n): ...

    return app


@pytest.fixture(params=BROKERS)
def shop(request, tmp_path):
    """An app on one broker after the other."""
    memory = f"relevo://memory/{uuid.uuid4()}"
    url = memory if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    app = app_on(url, tmp_path)
    yield app
    app.close()


@pytest.fixture
def on_redis(redis_url, tmp_path):
    app = app_on(redis_url, tmp_path)
    app.tasks["plain"].delay()  # a process's first job connects, in a thread
    broker(app).clear(app.queue)
    yield app
    app.close()


def broker(app):
    """The driver that the app's dispatches use."""
    with app.producer_or_acquire() as producer:
        return producer.channel.driver


def jobs(app):
    return {job.id: job for job in broker(app).peek(app.queue, State.PENDING, 2000)}


async def all_at_once(*dispatches):
    return await asyncio.gather(*dispatches)


def test_each_dispatch_is_one_job_and_has_its_result(shop):
    plain = shop.tasks["plain"]

    async def main():
        one = await plain.adispatch(1)
        two = await plain.adelay(number=2)
        three = await plain.aapply_async((3,), priority=4)
        return [one, two, three, *await all_at_once(*(plain.adispatch(n) for n in range(40)))]

    results = asyncio.run(main())
    found = jobs(shop)
    assert {result.id for result in results} == found.keys()
    assert len(found) == 43
    assert found[results[2].id].priority == 4
    assert message_codec.body_of(found[results[1].id].payload)[1] == {"number": 2}


def test_the_builder_sends_from_asyncio_too(shop):
    plain = shop.tasks["plain"]

    async def main():
        await plain.delay_for(60).adispatch(1)
        return await plain.when(False).adispatch(2)

    assert asyncio.run(main()) is None
    sizes = broker(shop).sizes(shop.queue)
    assert (sizes.pending, sizes.delayed) == (0, 1)


def test_tags_keys_and_checks_are_those_of_a_dispatch(shop):
    rich = shop.tasks["rich"]

    async def main():
        first, second = await rich.adispatch(1), await rich.adispatch(1)
        with pytest.raises(TypeError, match="missing 1 required"):
            await rich.adispatch()
        with pytest.raises(OptionError, match="tries"):
            await rich.aapply_async((2,), tries=-1)
        with pytest.raises(OptionError, match="trys"):
            await rich.aapply_async((2,), trys=1)
        return first, second

    first, second = asyncio.run(main())
    assert (first.is_duplicate, second.is_duplicate, second.id) == (False, True, first.id)
    [job] = jobs(shop).values()
    assert message_codec.headers_of(job.payload)["relevo"]["tags"] == ["n:1"]


def test_the_event_loop_never_calls_a_broker_itself(shop, monkeypatch):
    driver, loop_threads, putting = broker(shop), set(), []
    whole = driver.put

    def put(these):
        putting.append(threading.get_ident())
        return whole(these)

    monkeypatch.setattr(driver, "put", put)

    async def main():
        loop_threads.add(threading.get_ident())
        for number in range(5):
            await shop.tasks["plain"].adispatch(number)

    asyncio.run(main())
    assert loop_threads.isdisjoint(putting)
    assert len(jobs(shop)) == 5


def test_a_session_is_refused_with_the_way_out(shop):
    with pytest.raises(OptionError, match="run_sync"):
        asyncio.run(shop.tasks["plain"].aapply_async((1,), session=Session()))


def test_what_is_captured_is_not_sent(shop):
    with capture() as captured:
        asyncio.run(shop.tasks["plain"].adispatch(1))
        assert len(captured.pop_jobs()) == 1
    assert jobs(shop) == {}


def test_a_fake_catches_it(on_redis):
    with fake(app=on_redis) as caught:
        asyncio.run(on_redis.tasks["plain"].adispatch(5))
    caught.assert_dispatched("plain", 1, args=(5,))
    assert jobs(on_redis) == {}


@pytest.mark.parametrize("shop", ["sqlite", "redis"], indirect=True)
def test_a_job_that_dispatches_is_the_parent(shop):
    shop.tasks["plain"].delay()

    @shop.task(name="parent", shared=False)
    def parent():
        return asyncio.run(shop.tasks["plain"].adispatch()).id

    tracer = build_tracer("parent", parent, app=shop)
    id_ = tracer("p", (), {}, {"id": "p", "root_id": "r", "is_eager": True})[0]
    headers = message_codec.headers_of(jobs(shop)[id_].payload)
    assert (headers["root_id"], headers["parent_id"]) == ("r", "p")


# --- Redis: together, and after faults ------------------------------------------------------------
@pytest.fixture
def puts(on_redis, monkeypatch):
    """How many jobs each put of asyncio had."""
    sizes = []
    whole = AsyncPuts.put_group

    async def put_group(self, client, these, *rest):
        sizes.append(len(these))
        return await whole(self, client, these, *rest)

    monkeypatch.setattr(AsyncPuts, "put_group", put_group)
    return sizes


def test_dispatches_at_once_are_put_together(on_redis, puts):
    plain = on_redis.tasks["plain"]
    asyncio.run(all_at_once(*(plain.adispatch(n) for n in range(100))))
    assert puts == [100]
    asyncio.run(all_at_once(*(plain.adispatch(n) for n in range(GROUP + 1))))
    assert puts == [100, GROUP, 1]
    assert len(jobs(on_redis)) == 101 + GROUP


def test_a_bad_job_fails_alone(on_redis):
    plain = on_redis.tasks["plain"]

    async def main():
        calls = [
            plain.adispatch(1),
            plain.aapply_async((2,), task_id="x" * 300),
            plain.adispatch(3),
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, bad, third = asyncio.run(main())
    assert isinstance(bad, OptionError)
    assert jobs(on_redis).keys() == {first.id, third.id}


@pytest.mark.parametrize("lost", ["answer", "question"])
def test_a_group_whose_answer_is_lost_is_put_once(on_redis, monkeypatch, lost):
    whole, failing = redis.asyncio.Redis.evalsha, [1, 1]

    async def evalsha(self, *given):
        if failing and lost == "question":
            failing.pop()
            raise redis.TimeoutError("away")
        answer = await whole(self, *given)
        if failing:
            failing.pop()
            raise redis.TimeoutError("away")
        return answer

    asyncio.run(on_redis.tasks["plain"].adispatch())  # Redis knows the script
    broker(on_redis).clear(on_redis.queue)
    monkeypatch.setattr(redis.asyncio.Redis, "evalsha", evalsha)
    plain = on_redis.tasks["plain"]
    results = asyncio.run(all_at_once(*(plain.adispatch(n) for n in range(10))))
    assert failing == []
    assert jobs(on_redis).keys() == {result.id for result in results}
    assert broker(on_redis).sizes(on_redis.queue).pending == 10


def test_a_redis_that_stays_away_is_an_error_for_each_caller(on_redis, monkeypatch):
    async def put_group(*_given):
        raise DriverUnavailableError("away")

    on_redis.conf.task_publish_retry_policy = {"max_retries": 1, "interval_start": 0}
    on_redis.tasks["plain"].delay()
    monkeypatch.setattr(AsyncPuts, "put_group", put_group)
    calls = [on_redis.tasks["plain"].adispatch(n) for n in range(3)]

    async def main():
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [OperationalError] * 3


def test_a_cancelled_caller_leaves_the_others_alone(on_redis):
    plain = on_redis.tasks["plain"]

    async def main():
        tasks = [asyncio.create_task(plain.adispatch(n)) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, cancelled, third = asyncio.run(main())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert {first.id, third.id} <= jobs(on_redis).keys()


def test_a_redis_that_has_forgotten_the_script_gets_its_text(on_redis):
    driver = broker(on_redis)
    driver.client.script_flush()
    asyncio.run(on_redis.tasks["plain"].adispatch(1))
    assert len(jobs(on_redis)) == 1


def test_an_event_loop_leaves_no_open_connection(on_redis):
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        for _ in range(3):
            asyncio.run(on_redis.tasks["plain"].adispatch())
        gc.collect()
    assert [str(each.message) for each in warned if "Connection" in str(each.message)] == []
    assert len(broker(on_redis).async_puts._senders) == 0
