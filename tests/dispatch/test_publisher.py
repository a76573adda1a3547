"""The short way of a dispatch: what it puts means the same as Celery's message, and what it doesn't
know goes Celery's way.
"""

from __future__ import annotations

import datetime as dt
import decimal
import os
import uuid
from types import SimpleNamespace

import celery
import pytest
from celery import signals
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.exceptions import OperationalError
from pydantic import BaseModel
from sqlalchemy.orm import Session

import relevo
from relevo import config, drivers, events
from relevo.app import App, create_app
from relevo.database.engine import make_engine
from relevo.drivers import message_codec
from relevo.drivers.contract import State
from relevo.errors import DriverError, DriverUnavailableError
from relevo.testing import fake


class Order(BaseModel):
    number: int


def make_app(folder, url=None, **changes):
    given = {"QUEUE_RESULTS": "none", "DATABASE_URL": f"sqlite:///{folder}/store.db"}
    url = url or f"relevo://memory/{uuid.uuid4()}"
    return create_app(
        "shop",
        config.load({**given, "RELEVO_REDACT": "password"}, env_file=None),
        **{"broker_url": url, "task_default_queue": f"short-{uuid.uuid4()}", **changes},
    )


@pytest.fixture
def shop(tmp_path):
    app = make_app(tmp_path, task_routes={"routed.*": {"queue": "routed", "priority": 4}})
    define(app)
    yield app
    app.close()


def define(app):
    """Tasks with every option that shows in a message."""
    kinds = {
        "plain": {},
        "routed.one": {},
        "limited": {"time_limit": 30, "soft_time_limit": 20},
        "silent": {"ignore_result": True},
        "urgent": {"priority": 2},
        "patient": {"tries": 3, "backoff": [1, 2]},
        "dated": {"tries": 3, "retry_until": 600},
        "tagged": {"tags": lambda *args, **kwargs: [f"n:{len(args)}{len(kwargs)}"]},
        "unique": {"unique_by": lambda *args, **kwargs: repr((args, kwargs)), "unique_for": 9},
        "debounced": {"unique_by": lambda *_, **__: "one", "debounce": 5, "debounce_max": 9},
        "fair": {"fair_by": lambda *args, **_: len(args)},
        "secret": {"redact": True},
        "expiring": {"expires": 60},
        "untyped": {"typing": False},
    }
    for name, options in kinds.items():

        @app.task(name=name, shared=False, **options)
        def body(*args, **kwargs): ...

    @app.task(name="modelled", shared=False, pydantic=True)
    def modelled(order: Order, *args, **kwargs): ...

    return kinds


KINDS = define(celery.Celery("names", task_cls="relevo.task:Task", set_as_current=False))
texts = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["caf\udce9.jpg", "a\0b"]),  # texts of users that no database takes
    st.sampled_from(
        ["it's", 'say "x"', "back\\slash", "a\nb", "é\N{PILE OF POO}", "\u2028", "x" * 2000]
    ),
)
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        texts,
        st.dates(),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.uuids(),
        st.datetimes(timezones=st.just(dt.UTC)),
        st.binary(max_size=9),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(texts, st.integers()), inner, max_size=3),
        st.dictionaries(st.sampled_from(["password", "name"]), inner, max_size=2),
    ),
    max_leaves=12,
)
arguments = st.one_of(
    st.none(), st.lists(values, max_size=4), st.lists(values, max_size=4).map(tuple)
)
keywords = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from(["a", "password", "order", "ключ"]), values, max_size=3),
)
options = st.fixed_dictionaries(
    {},
    optional={
        "queue": st.sampled_from(["high", "low"]),
        "priority": st.sampled_from([None, 0, 1, 9]),
        "ignore_result": st.booleans(),
        "time_limit": st.sampled_from([None, 1, 2.5, True]),
        "soft_time_limit": st.sampled_from([None, 1]),
        "countdown": st.sampled_from([0, 60]),
        "shadow": st.just("shown"),
        "headers": st.just({"mine": 1}),
        "expires": st.just(600),
        "routing_key": st.just("high"),
        "tags": st.just(["at dispatch"]),
    },
)


def put(app, name, args, kwargs, given, *, short):
    """The job that a dispatch puts, by one way or the other."""
    jobs = []
    driver = drivers.driver_for(app.conf.broker_url)
    app.publisher._possible = short
    given = dict(given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            driver, "put", lambda these: (jobs.extend(these), [done(job) for job in these])[1]
        )
        app.tasks[name].apply_async(args, kwargs, task_id="the-id", **given)
    [job] = jobs
    return job


def done(job):
    return SimpleNamespace(id=job.id, created=True, replaced=False)


def meaning(job):
    """What a job says on the wire, but for ids and times."""
    message = message_codec.loads(job.payload)
    message["properties"] = known_properties(message) | {"delivery_tag": None, "due_at": None}
    for name in ("eta", "expires"):
        message["headers"][name] = message["headers"][name] and "an instant"
    if "relevo" in message["headers"]:
        ours = message["headers"]["relevo"]
        message["headers"]["relevo"] = {**ours, "deadline": "deadline" in ours}
    body = message["body"]
    if message["content-type"] == "application/json":
        body = message_codec.loads(body)
    fields = (job.queue, job.id, job.priority, job.unique_key, job.unique_for, job.on_conflict)
    fields += (job.max_delay, job.fair_key, job.available_at is None)
    return fields, repr({**message, "body": body})


def known_properties(message):
    """Without the texts for people that Celery leaves there if an argument is redacted."""
    return {
        name: value
        for name, value in sorted(message["properties"].items())
        if name not in ("argsrepr", "kwargsrepr")
    }


def order(message):
    """The keys of a message's parts, in their order."""
    message = message_codec.loads(message.payload)
    return list(message), list(message["headers"]), list(known_properties(message))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(KINDS)), arguments, keywords, options)
def test_a_message_from_a_template_means_what_celerys_means(shop, name, args, kwargs, given):
    if "soft_time_limit" in given and name == "limited":
        del given["soft_time_limit"]
    warm(shop)
    put(shop, name, ["another"], {}, given, short=True)  # of which the template is made
    short = put(shop, name, args, kwargs, given, short=True)
    long = put(shop, name, args, kwargs, given, short=False)
    assert meaning(short) == meaning(long)
    assert order(short) == order(long)


def warm(app):
    """Dispatch the first job of the process, which goes Celery's way."""
    if app.publisher._driver is None:
        app.publisher._possible = True
        app.tasks["plain"].delay()
        assert app.publisher._driver is not None


def test_models_are_written_as_celery_writes_them(shop):
    warm(shop)
    put(shop, "modelled", [Order(number=1)], {}, {}, short=True)
    short = put(shop, "modelled", [Order(number=7)], {"x": 1}, {}, short=True)
    long = put(shop, "modelled", [Order(number=7)], {"x": 1}, {}, short=False)
    assert meaning(short) == meaning(long)


@pytest.fixture
def ways(shop, monkeypatch):
    """Which way each dispatch goes."""
    warm(shop)
    seen = []
    fill = shop.publisher.prepare

    def prepare(*given):
        prepared = fill(*given)
        seen.append("short" if prepared else "long")
        return prepared

    monkeypatch.setattr(shop.publisher, "prepare", prepare)
    return seen


def test_a_plain_dispatch_is_one_call_of_the_driver_and_asks_no_router(shop, ways, monkeypatch):
    task = shop.tasks["routed.one"]
    task.delay(0)
    driver = drivers.driver_for(shop.conf.broker_url)
    calls = []
    for name in ("put", "sizes", "paused", "broadcast", "subscribe"):
        monkeypatch.setattr(driver, name, noting(calls, name, getattr(driver, name)))
    monkeypatch.setattr(type(shop.amqp.router), "route", noting(calls, "route", None))
    task.delay(1)
    assert (calls, ways) == (["put"], ["short", "short"])
    assert shop.tasks["routed.one"].delay(2).id in [
        job.id for job in driver.peek("routed", State.PENDING)
    ]


def noting(calls, name, whole):
    def called(*args, **kwargs):
        calls.append(name)
        return whole(*args, **kwargs)

    return called


@pytest.mark.parametrize("signal", ["before_task_publish", "after_task_publish", "task_sent"])
def test_receivers_of_signals_hear_of_each_dispatch_while_they_are_connected(shop, ways, signal):
    heard = []

    def receiver(**given):
        heard.append(given["sender"])

    task = shop.tasks["plain"]
    task.delay()
    getattr(signals, signal).connect(receiver)
    task.delay()
    task.delay()
    getattr(signals, signal).disconnect(receiver)
    task.delay()
    assert heard == ["plain", "plain"]
    assert ways == ["short", "long", "long", "short"]


def test_a_receiver_may_change_the_message(shop, ways):
    def receiver(headers, **_given):
        headers["trace"] = "abc"

    shop.tasks["plain"].delay()
    signals.before_task_publish.connect(receiver)
    try:
        job = put(shop, "plain", [], {}, {}, short=True)
    finally:
        signals.before_task_publish.disconnect(receiver)
    assert message_codec.headers_of(job.payload)["trace"] == "abc"


def test_listeners_of_dispatched_hear_of_it(shop, ways):
    heard = []
    listener = relevo.on("dispatched")(lambda event: heard.append(event.id))
    try:
        sent = shop.tasks["plain"].delay()
    finally:
        events.remove(listener)
        signals.after_task_publish.disconnect(
            dispatch_uid="relevo.events.on_published", receiver=events.on_published
        )
    assert heard == [sent.id]


def test_a_router_that_is_a_function_is_asked_for_each_job(tmp_path):
    asked = []

    def route(name, args, kwargs, options, task=None, **_given):
        asked.append(args)
        return {"queue": f"q{args[0]}"}

    app = make_app(tmp_path, task_routes=(route,))
    define(app)
    jobs = [put(app, "plain", (number,), {}, {}, short=True) for number in range(3)]
    assert [job.queue for job in jobs] == ["q0", "q1", "q2"]
    assert asked == [(0,), (1,), (2,)]
    app.close()


def test_settings_may_change_between_two_dispatches(shop, ways):
    task = shop.tasks["plain"]
    assert put(shop, "plain", [], {}, {}, short=True).queue == shop.conf.task_default_queue
    shop.conf.task_default_queue = "elsewhere"
    assert put(shop, "plain", [], {}, {}, short=True).queue == "elsewhere"
    shop.conf.task_always_eager = True
    assert task.delay().state == "SUCCESS"
    assert ways[-1] == "long"


def test_a_fake_catches_the_dispatch(shop, ways):
    shop.tasks["plain"].delay()
    with fake(app=shop) as jobs:
        shop.tasks["plain"].delay(5)
    jobs.assert_dispatched("plain", 1, args=(5,))
    shop.tasks["plain"].delay()
    assert ways == ["short", "long", "short"]


def test_a_transaction_keeps_the_job_until_it_commits(shop, ways, tmp_path):
    driver = drivers.driver_for(shop.conf.broker_url)
    queue = shop.conf.task_default_queue
    with Session(make_engine(f"sqlite:///{tmp_path}/store.db")) as session:
        before = driver.sizes(queue).pending
        shop.tasks["plain"].dispatch(1, session=session)
        assert driver.sizes(queue).pending == before
        session.commit()
    assert driver.sizes(queue).pending == before + 1


def test_an_app_that_sends_in_its_own_way_is_asked(tmp_path):
    names = []

    class Own(App):
        def send_task(self, name, *args, **kwargs):
            names.append(name)
            return super().send_task(name, *args, **kwargs)

    app = Own("own", settings=make_app(tmp_path).settings, broker=f"relevo://memory/{uuid.uuid4()}")
    define(app)
    for _ in range(3):
        app.tasks["plain"].delay()
    assert names == ["plain"] * 3
    app.close()


def test_a_result_knows_of_the_job_that_has_its_key(shop, ways):
    first, second = shop.tasks["unique"].delay(1), shop.tasks["unique"].delay(1)
    assert (first.is_duplicate, second.is_duplicate, second.id) == (False, True, first.id)
    assert ways == ["short", "short"]


def test_a_job_that_dispatches_is_the_parent(shop, ways):
    child = shop.tasks["plain"]

    @shop.task(name="parent", shared=False, bind=True)
    def parent(self):
        return put(shop, "plain", [], {}, {}, short=True)

    from celery.app.trace import build_tracer  # noqa: PLC0415  it imports the worker

    child.delay()
    request = {"id": "p", "root_id": "r", "is_eager": False}
    tracer = build_tracer("parent", parent, app=shop)
    job = tracer("p", (), {}, request)[0]
    headers = message_codec.headers_of(job.payload)
    assert (headers["root_id"], headers["parent_id"]) == ("r", "p")
    assert ways == ["short", "short"]


def test_bad_arguments_are_refused_as_by_celery(shop, ways):
    @shop.task(name="strict", shared=False)
    def strict(number): ...

    strict.delay(1)
    with pytest.raises(TypeError, match="missing 1 required"):
        strict.delay()
    with pytest.raises(Exception, match="not JSON serializable"):
        strict.delay(object())


@pytest.mark.parametrize("error", [DriverError, DriverUnavailableError])
def test_a_put_that_fails_is_tried_again_under_the_same_id(shop, ways, monkeypatch, error):
    driver = drivers.driver_for(shop.conf.broker_url)
    whole, tried = driver.put, []

    def failing(jobs):
        tried.append([job.id for job in jobs])
        if len(tried) == 1:
            raise error("away")
        return whole(jobs)

    monkeypatch.setattr(driver, "put", failing)
    result = shop.tasks["plain"].delay()
    assert tried == [[result.id], [result.id]]


def test_without_retries_the_caller_gets_the_error(tmp_path, monkeypatch):
    app = make_app(tmp_path, task_publish_retry=False)
    define(app)
    warm(app)

    def failing(jobs):
        raise DriverUnavailableError("away")

    monkeypatch.setattr(drivers.driver_for(app.conf.broker_url), "put", failing)
    with pytest.raises(OperationalError, match="away"):
        app.tasks["plain"].delay()
    app.close()


def test_a_dispatch_to_another_broker_never_asks_the_apps_own(tmp_path):
    app = make_app(tmp_path, url="redis://127.0.0.1:1/0", task_publish_retry=False)
    define(app)
    with celery.Celery(broker=f"relevo://memory/{uuid.uuid4()}").connection_for_write() as other:
        app.tasks["plain"].apply_async(producer=app.amqp.Producer(other))
        assert drivers.driver_for(other.as_uri()).sizes(app.conf.task_default_queue).pending == 1
    app.close()


def test_a_forked_process_makes_its_own_templates(shop, ways):
    shop.tasks["plain"].delay()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        warm(shop)
        job = put(shop, "plain", [], {}, {}, short=True)
        os.write(write, message_codec.headers_of(job.payload)["origin"].encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 200).decode().startswith(f"gen{pid}@")


def test_decimals_and_dates_take_the_short_way(shop, ways):
    shop.tasks["plain"].delay(decimal.Decimal("1.5"), dt.date(2026, 1, 1))
    assert ways == ["short"]


def test_another_serializer_is_celerys_business(shop, ways):
    @shop.task(name="written", shared=False, serializer="yaml")
    def written(number): ...

    for number in (1, 2):
        job = put(shop, "written", (number,), {}, {}, short=True)
        assert message_codec.loads(job.payload)["content-type"] == "application/x-yaml"
    assert ways == ["long", "long"]
