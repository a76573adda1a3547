"""A job exists if and only if the transaction of its dispatch commits, and takes effect once."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from relevo import config
from relevo.app import create_app
from relevo.database import after_commit as on_commit
from relevo.database.engine import make_engine
from relevo.dispatch import transactions
from relevo.dispatch.delivery import delivery_of, same_database
from relevo.dispatch.transactions import after_commit
from relevo.drivers import driver_for
from relevo.errors import DriverUnavailableError, OptionError
from relevo.middleware.transaction import Transaction
from relevo.store import failed, outbox, receipts
from relevo.store.outbox import Sending
from tests.support import batch_tasks
from tests.support.batch_tasks import calls_of, finished, task_of, working
from tests.support.waits import eventually


@pytest.fixture
def app(batch_app):
    return batch_app


@pytest.fixture
def session(app):
    delivery_of(app).store.read(lambda connection: None)
    engine = make_engine(app.settings.database_url)
    with Session(engine) as session:
        yield session
    engine.dispose()


def waiting(app):
    with app.connection_for_write() as connection:
        return connection.default_channel.driver.sizes(app.conf.task_default_queue).pending


def test_a_job_exists_after_the_commit_of_its_session_and_not_before(app, calls, session):
    work = task_of(app, "work")
    result = work.dispatch(1, session=session)
    work.in_session(session).dispatch(2)
    work.apply_async((3,), session=session)
    assert result.id
    assert waiting(app) == 0
    session.commit()
    assert waiting(app) == 3
    assert outbox.status(delivery_of(app).store) == []
    with working(app):
        eventually(lambda: sorted(calls_of("work")) == [1, 2, 3])


def test_a_scoped_session_stands_for_the_one_of_its_thread(app, session):
    scoped = scoped_session(lambda: session)
    work = task_of(app, "work")
    work.dispatch(1, session=scoped)
    work.apply_async((2,), session=scoped)
    work.after_commit(scoped, 3)
    app.batch([work.s(4)]).dispatch(session=scoped)
    assert waiting(app) == 0
    session.commit()
    assert waiting(app) == 4


def test_no_session_is_a_dispatch_without_one(app):
    task_of(app, "work").dispatch(1, session=None)
    task_of(app, "work").apply_async((2,), session=None)
    assert waiting(app) == 2


NO_SESSIONS = [
    (lambda engine: "session", ""),
    (lambda engine: Session, ""),
    (lambda engine: engine, "; open one: with Session"),
    (lambda engine: engine.connect(), "; Session(connection) makes one"),
    (sessionmaker, "; call it: with maker() as session"),
    (lambda engine: AsyncSession(), "; await session.run_sync(function) calls a function with one"),
]


@pytest.mark.parametrize(("make", "remedy"), NO_SESSIONS)
@pytest.mark.parametrize(
    "dispatch",
    [
        lambda app, task, given: task.dispatch(1, session=given),
        lambda app, task, given: task.in_session(given),
        lambda app, task, given: task.apply_async((1,), session=given),
        lambda app, task, given: task.after_commit(given, 1),
        lambda app, task, given: app.batch([task.s(1)]).dispatch(session=given),
        lambda app, task, given: app.chain(task.s(1)).dispatch(session=given),
    ],
)
@pytest.mark.parametrize("eager", [False, True])
def test_what_is_no_session_is_refused_with_what_to_do(
    sqlite_app, session, dispatch, make, remedy, eager
):
    batch_tasks.define_tasks(sqlite_app)
    sqlite_app.conf.task_always_eager = eager
    given = make(session.get_bind())
    with pytest.raises(OptionError) as refused:
        dispatch(sqlite_app, task_of(sqlite_app, "work"), given)
    message = str(refused.value)
    assert message.startswith("expected session to be a Session of SQLAlchemy, or a scoped_session")
    assert remedy in message
    if isinstance(given, Connection):
        given.close()


def test_a_task_may_have_an_argument_of_that_name(sqlite_app):
    @sqlite_app.task(name="login")
    def login(session): ...

    login.dispatch(session="abc")
    assert waiting(sqlite_app) == 1
    with pytest.raises(OptionError, match="Session of SQLAlchemy"):
        login.dispatch(session=AsyncSession())


def test_a_rollback_leaves_nothing(app, session):
    work = task_of(app, "work")
    work.dispatch(1, session=session)
    work.after_commit(session, 2)
    session.rollback()
    session.commit()
    assert waiting(app) == 0
    assert outbox.status(delivery_of(app).store) == []


def test_a_savepoint_that_is_rolled_back_takes_its_jobs_with_it(app, session):
    work = task_of(app, "work")
    work.dispatch(1, session=session)
    savepoint = session.begin_nested()
    work.dispatch(2, session=session)
    work.after_commit(session, 3)
    savepoint.rollback()
    with session.begin_nested():
        work.after_commit(session, 4)
    assert waiting(app) == 0
    session.commit()
    assert waiting(app) == 2


def test_a_job_of_a_nested_savepoint_that_is_rolled_back_is_not_sent(session):
    done = []
    outer = session.begin_nested()
    middle, inner = session.begin_nested(), session.begin_nested()
    after_commit(session, lambda: done.append("undone"))
    inner.commit()
    middle.commit()
    outer.rollback()
    after_commit(
        session, lambda: after_commit(session, lambda: done.append("asked for after the commit"))
    )
    session.commit()
    assert done == ["asked for after the commit"]


@pytest.mark.parametrize("end", ["close", "reset", "invalidate"])
def test_a_session_that_is_closed_without_a_commit_sends_nothing_later(
    app,
    session,
    end,
):
    task_of(app, "work").after_commit(session, 1)
    task_of(app, "work").dispatch(2, session=session)
    getattr(session, end)()
    task_of(app, "work").after_commit(session, 3)
    session.commit()
    assert waiting(app) == 1


def test_only_a_session_that_a_dispatch_has_joined_is_listened_to(session):
    # When one of two sessions is to do something after its commit
    done = []
    joined = session
    with Session(session.get_bind()) as other:
        after_commit(joined, lambda: done.append("first"))
        after_commit(joined, lambda: done.append("second"))

        # I expect its events to be listened to, once each, and those of no other
        for name, listener in transactions._LISTENERS.items():
            assert event.contains(joined, name, listener)
            assert not event.contains(other, name, listener)
            assert not event.contains(Session, name, listener)
        joined.commit()
    assert done == ["first", "second"]


def test_batches_and_chains_can_be_dispatched_in_a_transaction(app, calls, session):
    work = task_of(app, "work")
    batch = app.batch(work.s(n) for n in range(3)).dispatch(session=session)
    chain = app.chain(work.si(3), work.si(4)).dispatch(session=session)
    lost = app.batch([work.s(9)])
    assert app.batches.find(batch.id) is None
    session.commit()
    lost.dispatch(session=session)
    session.rollback()
    with working(app):
        finished(batch)
        finished(chain)
    assert sorted(calls_of("work")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("batch_app", ["redis"], indirect=True)
def test_a_worker_sends_the_jobs_that_an_unreachable_broker_did_not_get(
    app,
    calls,
    session,
    monkeypatch,
):
    way = delivery_of(app)

    def away(*_args):
        raise DriverUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(way, "put", away)
        for number in range(5):
            task_of(app, "work").dispatch(number, session=session)
        session.commit()
        [waits] = outbox.status(way.store)
        assert (waits.connection, waits.jobs) == ("redis", 5)
    with working(app, 1):
        eventually(lambda: calls_of("work") == list(range(5)))
    assert outbox.status(way.store) == []


@pytest.mark.parametrize("batch_app", ["redis"], indirect=True)
def test_a_row_that_the_broker_refuses_is_failed_and_blocks_no_other(app, session):
    way = delivery_of(app)
    batch = app.batch([task_of(app, "work").s(0)]).dispatch()
    payload = json.dumps({"headers": {"relevo_member": [[batch.id, 0]]}, "body": "[[], {}, {}]"})
    bad = Sending(connection="redis", queue="x" * 300, uuid="bad", payload=payload)
    way.store.write(lambda connection: outbox.add(connection, [bad]))
    task_of(app, "work").dispatch(1, session=session)
    session.commit()
    assert waiting(app) == 2
    assert outbox.status(way.store) == []
    assert [job.uuid for job in failed.page(way.store)] == ["bad"]
    assert batch.refresh().failed == 1


@pytest.mark.parametrize("batch_app", ["redis"], indirect=True)
def test_a_sender_that_died_before_it_deleted_the_row_sends_nothing_twice(
    app,
    calls,
    session,
    monkeypatch,
):
    way = delivery_of(app)
    put = way.put

    def put_and_die(*args):
        put(*args)
        raise DriverUnavailableError("died")

    with monkeypatch.context() as patch:
        patch.setattr(way, "put", put_and_die)
        task_of(app, "work").dispatch(1, session=session)
        session.commit()
        assert waiting(app) == 1
        with pytest.raises(DriverUnavailableError):
            way.forward("redis")
        assert waiting(app) == 1
        with working(app):
            eventually(lambda: calls_of("work") and not outbox.status(way.store))
    assert way.forward("redis") == 0
    assert calls_of("work") == [1]


def test_a_session_of_another_database_is_refused(app, tmp_path):
    with Session(make_engine(f"sqlite:///{tmp_path}/other.sqlite3")) as other:
        with pytest.raises(OptionError, match="expected a session of the database of DATABASE_URL"):
            task_of(app, "work").dispatch(1, session=other)
        task_of(app, "work").after_commit(other, 1)
        other.commit()
    assert waiting(app) == 1
    with pytest.raises(OptionError, match="Session of SQLAlchemy"):
        task_of(app, "work").in_session("session")


def test_a_transactional_job_that_is_delivered_twice_takes_effect_once(app, calls):
    @app.task(name="shop.pay", shared=False, middleware=[Transaction(once=True)])
    def pay(order, fails=False):
        batch_tasks.calls.append(("pay", order))
        if fails:
            raise ValueError

    with working(app, 1):
        pay.apply_async((1,), task_id="order-1")
        pay.apply_async((1,), task_id="order-1")
        pay.apply_async((2, True), task_id="order-2")
        pay.apply_async((2,), task_id="order-2")
        eventually(lambda: len(calls_of("pay")) == 3)
        store = delivery_of(app).store
        eventually(
            lambda: store.read(lambda connection: receipts.exists(connection, "ran:order-2"))
        )
    assert sorted(calls_of("pay")) == [1, 2, 2]


def test_the_order_of_a_queue_is_kept(app, session):
    for number in range(5):
        task_of(app, "work").dispatch(number, session=session)
    session.commit()
    driver = (
        driver_for(app.conf.broker_url) if app.settings.queue_connection == "database" else None
    )
    if driver is not None:
        views = driver.peek(app.conf.task_default_queue, "pending")
        assert [json.loads(json.loads(view.payload)["body"])[0] for view in views] == [
            [n] for n in range(5)
        ]


def test_a_new_file_gets_its_tables_in_the_transaction_of_the_first_job(app):
    with Session(make_engine(app.settings.database_url)) as session:
        task_of(app, "work").dispatch(1, session=session)
        session.rollback()
        task_of(app, "work").dispatch(2, session=session)
        session.commit()
        task_of(app, "work").dispatch(3, session=session)
        session.commit()
    assert waiting(app) == 2


def test_a_new_file_whose_first_transaction_is_rolled_back_gets_its_tables_in_the_next(app):
    work = task_of(app, "work")
    with Session(make_engine(app.settings.database_url)) as session:
        for number in range(3):  # from the second on, this transaction has seen its own tables
            work.dispatch(number, session=session)
        with session.begin_nested() as savepoint:
            work.dispatch(3, session=session)
            savepoint.rollback()
        work.dispatch(4, session=session)
        session.rollback()
        work.dispatch(5, session=session)
        session.commit()
    assert waiting(app) == 1


def test_jobs_that_run_in_place_run_when_the_session_has_committed(app, calls, session):
    app.conf.task_always_eager = True
    work = task_of(app, "work")
    work.dispatch(1, session=session)
    app.batch([work.s(2)]).dispatch(session=session)
    app.chain(work.si(3)).dispatch(session=session)
    assert calls_of("work") == []
    session.commit()
    assert calls_of("work") == [1, 2, 3]
    app.batch([work.s(4)]).dispatch(session=session)
    session.rollback()
    session.commit()
    assert calls_of("work") == [1, 2, 3]


def test_the_first_job_of_a_process_can_be_dispatched_in_a_transaction(tmp_path):
    """Celery would make the tables of the results then, and wait for the lock that the transaction
    has.
    """
    url = f"sqlite:///{tmp_path}/relevo.sqlite3"
    new = create_app(
        "shop", config.load({"DATABASE_URL": url, "RELEVO_VAR_DIR": str(tmp_path)}, None)
    )

    @new.task(name="shop.work", shared=False)
    def work(number): ...

    with Session(make_engine(url)) as session:
        work.dispatch(1, session=session)
        session.commit()
    assert driver_for(url).sizes("default").pending == 1


def test_receipts_with_the_same_long_prefix_are_different(app):
    store = delivery_of(app).store
    pages = [f"added:{'x' * 300}:{number}" for number in range(2)]
    assert [
        store.write(lambda connection, page=page: receipts.insert_once(connection, page))
        for page in pages * 2
    ] == [
        True,
        True,
        False,
        False,
    ]
    assert store.read(lambda connection: receipts.exists(connection, pages[1]))


@pytest.mark.parametrize("mode", ["conditional_savepoint", "rollback_only", "create_savepoint"])
@pytest.mark.parametrize("used", [False, True])
def test_after_commit_refuses_a_session_that_has_joined_a_transaction(mode, used):
    engine = make_engine("sqlite://")
    with (
        engine.connect() as connection,
        connection.begin(),
        Session(connection, join_transaction_mode=mode) as joined,
    ):
        if used:
            joined.execute(text("SELECT 1"))
        with pytest.raises(OptionError, match=r"dispatch\(session=\.\.\.\)"):
            after_commit(joined, list)
        joined.commit()


@pytest.mark.parametrize("mode", ["conditional_savepoint", "control_fully"])
@pytest.mark.parametrize("used", [False, True])
def test_after_commit_takes_a_session_whose_commit_commits(mode, used):
    engine, done = make_engine("sqlite://"), []
    with engine.connect() as connection:
        if mode == "control_fully":
            connection.begin()
        with Session(connection, join_transaction_mode=mode) as session:
            if used:
                session.execute(text("SELECT 1"))
            with session.begin_nested():
                after_commit(session, lambda: done.append(1))
            assert done == []
            session.commit()
    assert done == [1]


def test_a_job_dispatched_in_a_joined_session_is_part_of_the_outer_transaction(app, session):
    engine = session.get_bind()
    work = task_of(app, "work")
    with engine.connect() as connection:
        for end in ("rollback", "commit"):
            outer = connection.begin()
            with Session(connection) as joined:
                work.dispatch(1, session=joined)
                joined.commit()
            getattr(outer, end)()
            store = delivery_of(app).store
            left = sum(backlog.jobs for backlog in outbox.status(store)) + waiting(app)
            assert left == (end == "commit")


def test_a_wake_up_is_the_transactions_whose_commit_it_follows(sqlite_app, monkeypatch):
    # Given a job that another thread has handed in and not committed yet
    delivery = delivery_of(sqlite_app)
    delivery.store.read(lambda _connection: None)  # makes the tables
    told = []
    driver = delivery.local_driver(sqlite_app.settings.queue_connection)
    monkeypatch.setattr(driver.notifier, "notify", lambda: told.append(1))
    sendings = [Sending(connection="database", queue="q", uuid="a", payload="{}")] * 2
    with delivery.store.engine.begin() as connection:
        for sending in sendings:
            delivery.hand_in(connection, [sending])
        delivery.after_commit("database")  # of another transaction
        assert told == []
        for each in on_commit.take(connection):
            each()
        assert len(told) == 1

    delivery.store.write(lambda connection: delivery.hand_in(connection, sendings[:1]))
    assert len(told) == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("postgresql://h/d?options=-csearch_path%3Da", "postgresql://h/d", False),
        (
            "postgresql://h/d?options=-csearch_path%3Da",
            "postgresql://h/d?options=-c%20search_path%3Db",
            False,
        ),
        (
            "postgresql://h/d?options=-csearch_path%3Da",
            "postgresql://u@h/d?options=-c%20search_path%3Da%20-cstatement_timeout%3D1",
            True,
        ),
        ("postgresql://h/d?options=-cstatement_timeout%3D1", "postgresql://h/d", True),
        ("postgresql://h/d", "postgresql+psycopg://u:p@h/d", True),
        ("mysql://h/d", "mariadb://h/d", True),
    ],
)
def test_urls_lead_to_the_same_tables_if_they_name_the_same_schemas(one, other, same):
    assert same_database(make_url(one), make_url(other)) is same
