"""Jobs dispatched to another broker than the app's own, by the name of a connection."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from relevo import config
from relevo.app import create_app
from relevo.database.engine import make_engine
from relevo.dispatch.delivery import delivery_of
from relevo.drivers import driver_for
from relevo.drivers.contract import State
from relevo.errors import OptionError, SettingsError
from tests.support import batch_tasks
from tests.support.waits import eventually


@pytest.fixture
def settings_of(tmp_path, redis_url):
    def make(name):
        given = {
            "DATABASE_URL": f"sqlite:///{tmp_path}/shop.db",
            "REDIS_URL": redis_url,
            "QUEUE_RESULTS": "none",
        }
        return config.load(
            {**given, "QUEUE_CONNECTION": name, "RELEVO_VAR_DIR": str(tmp_path)}, env_file=None
        )

    return make


@pytest.fixture
def shop(settings_of, request):
    app = create_app(
        "shop", settings_of(getattr(request, "param", "database")), task_create_missing_queues=True
    )
    empty(app)  # other tests use the same server
    yield app
    empty(app)
    app.close()


@pytest.fixture
def process(shop):
    @shop.task(name="images.process", shared=False, tries=3)
    def process(number=0):
        return number

    return process


def broker(app, name):
    connection = app.settings.connections[name]
    return driver_for(connection.url, connection.transport_options)


def empty(app):
    for name in ("database", "redis"):
        driver = broker(app, name)
        for queue in driver.queues():
            driver.clear(queue)


def where(app):
    """(broker, queue) -> the ids of its jobs."""
    found = {}
    for name in ("database", "redis"):
        driver = broker(app, name)
        for queue in driver.queues():
            waiting = [view.id for view in driver.peek(queue, State.PENDING)]
            if (
                waiting and "-" not in queue
            ):  # other tests' workers were killed on queues of their own
                found[name, queue] = waiting
    return found


def test_a_job_goes_to_the_broker_of_its_connection(shop, process):
    here, there, again = (
        process.dispatch(1),
        process.on_connection("redis").dispatch(2),
        process.dispatch(3),
    )
    assert where(shop) == {
        ("database", "default"): [here.id, again.id],
        ("redis", "default"): [there.id],
    }


def test_a_connection_has_a_queue_of_its_own_for_jobs_that_name_none(shop, process):
    @shop.task(name="own", shared=False, queue="mine")
    def own(): ...

    first = process.on_connection("redis-long").dispatch()
    second = process.on_connection("high-priority").dispatch()
    third = process.on_connection("redis-long").on_queue("other").dispatch()
    fourth = own.on_connection("redis-long").dispatch()
    assert where(shop) == {
        ("redis", "long"): [first.id],
        ("database", "high"): [second.id],
        ("redis", "other"): [third.id],
        ("redis", "mine"): [fourth.id],
    }


def test_a_route_decides_the_queue_of_another_connection_too(shop, process):
    shop.conf.task_routes = {"images.*": {"queue": "pictures"}}
    process.on_connection("redis-long").dispatch()
    assert list(where(shop)) == [("redis", "pictures")]


@pytest.mark.parametrize("name", ["redis-long", "database"])
@pytest.mark.parametrize("answer", ["pictures", {"queue": "pictures", "priority": 3}, None])
def test_a_router_that_is_a_function_is_asked_once(shop, process, name, answer):
    asked = []

    def route(_name, args, *_more, **_named):
        asked.append(args)
        return answer

    shop.conf.task_routes = (route,)
    process.on_connection(name).dispatch(1)
    queue = "pictures" if answer else {"redis-long": "long", "database": "default"}[name]
    assert list(where(shop)) == [(name.removesuffix("-long"), queue)]
    assert asked == [(1,)]


def test_celerys_own_options_reach_another_connection_too(shop, process):
    result = process.apply_async(
        (5,), connection="redis", queue="high", tries=5, task_id="mine", countdown=60
    )
    assert result.id == "mine"
    assert [view.id for view in broker(shop, "redis").peek("high", State.DELAYED)] == ["mine"]


def test_unique_jobs_are_unique_on_another_connection(shop):
    @shop.task(name="once", shared=False, unique_by=[])
    def once(): ...

    results = [once.on_connection(name).dispatch() for name in ("redis", "redis", "database")]
    assert [result.is_duplicate for result in results] == [False, True, False]


def test_the_connection_sync_runs_a_job_in_place(shop, process):
    assert process.on_connection("sync").dispatch(7).result == 7
    assert process.on_connection("redis").sync(8).result == 8
    assert where(shop) == {}


@pytest.mark.parametrize("shop", ["sync"], indirect=True)
def test_an_app_that_runs_jobs_in_place_can_send_one_to_a_connection(shop, process, recwarn):
    assert process.dispatch(7).result == 7
    sent = process.on_connection("redis").dispatch(8)
    assert where(shop) == {("redis", "default"): [sent.id]}
    assert not recwarn.list


def test_an_unknown_connection_is_refused_with_the_likely_one(process):
    with pytest.raises(SettingsError, match="no connection named 'reids'; did you mean 'redis'"):
        process.on_connection("reids")
    with pytest.raises(
        OptionError, match=r"expected the name of a connection of the settings, got 7"
    ):
        process.on_connection(7)


def test_a_job_of_a_transaction_goes_to_its_connection_when_that_commits(shop, process):
    engine = make_engine(shop.settings.database_url)
    delivery_of(shop).store.read(lambda connection: None)
    with Session(engine) as session:
        result = process.on_connection("redis").in_session(session).dispatch(1)
        assert where(shop) == {}
        session.commit()
    engine.dispose()
    assert where(shop) == {("redis", "default"): [result.id]}


@pytest.mark.parametrize(
    "words",
    [
        lambda app, sig: app.batch([sig]),
        lambda app, sig: app.batch([[sig, sig]]),
        lambda app, sig: app.chain(sig, sig),
    ],
)
def test_a_batch_or_chain_goes_to_its_connection_as_a_job_would(shop, process, words):
    made = words(shop, process.si(1)).on_connection("redis").dispatch()
    assert made.connection == "redis"
    [(place, ids)] = where(shop).items()
    assert (place, len(ids)) == (("redis", "default"), 1)


def test_a_member_for_another_broker_than_its_batch_is_refused(shop, process):
    with pytest.raises(
        OptionError, match="expected a job for the connection of its batch, 'database', got one for"
    ):
        shop.batch([process.si(1).set(connection="redis")]).dispatch()


def test_a_job_that_runs_in_place_is_not_part_of_a_transaction(shop, process):
    engine = make_engine(shop.settings.database_url)
    with Session(engine) as session, pytest.raises(OptionError, match="runs jobs in place"):
        process.on_connection("sync").in_session(session).dispatch(1)
    engine.dispose()


@pytest.fixture
def own_app(tmp_path):
    """Make the app of a project with a broker of its own; its workers take from `connection`."""

    def make(connection):
        environ = {
            "QUEUE_CONNECTION": connection,
            "QUEUE_RESULTS": "none",
            "DATABASE_URL": f"sqlite:///{tmp_path}/shop.db",
            "RELEVO_VAR_DIR": str(tmp_path),
        }
        reports = {"url": f"sqlite:///{tmp_path}/reports.db", "queue": "reports", "lease": 600}
        own = {"reports": reports, "slow": {"queue": "slow"}}
        app = create_app("shop", config.load(environ, None, connections=own))
        batch_tasks.define_tasks(app)
        return app

    return make


def test_a_connection_of_ones_own_is_used_like_the_others(own_app, calls):
    shop, worker = own_app("database"), own_app("reports")
    work = batch_tasks.task_of(shop, "work")
    engine = make_engine(shop.settings.database_url)
    delivery_of(shop).store.read(lambda connection: None)
    work.on_connection("reports").dispatch(1)
    work.apply_async((2,), connection="reports")
    with Session(engine) as session:
        work.on_connection("reports").dispatch(3, session=session)
        session.commit()
    shop.batch([work.s(4)]).on_connection("reports").dispatch()
    slow = work.on_connection("slow").dispatch(5)
    engine.dispose()
    assert broker(shop, "reports").sizes("reports").pending == 4
    assert [view.id for view in broker(shop, "database").peek("slow", State.PENDING)] == [slow.id]
    with batch_tasks.working(worker):
        eventually(lambda: sorted(batch_tasks.calls_of("work")) == [1, 2, 3, 4])
