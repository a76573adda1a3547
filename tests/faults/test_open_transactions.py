"""A user's transaction that stays open holds up no worker, and no other caller.

Each way to dispatch in a session is tried against each verb that a worker or another caller needs,
on the databases that lock rows. (SQLite has one writer, whatever it writes.)
"""

from __future__ import annotations

import contextlib
import threading
import uuid

import pytest
from sqlalchemy.orm import Session

from relevo import config
from relevo.app import create_app
from relevo.database.engine import make_engine
from relevo.dispatch.delivery import delivery_of
from relevo.drivers.contract import State
from relevo.drivers.database import jobs
from relevo.drivers.database.driver import DatabaseDriver
from relevo.limits.contract import Holder
from relevo.limits.database.store import DatabaseLimits
from relevo.store import outcomes, schedules
from relevo.store.batches import MemberEnd
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending, Retention
from tests.support.driver_jobs import LEASE, ids, job, take
from tests.support.waits import eventually

#: The key of the dispatches in the session, as it stands in the broker.
KEY = "the key"
# Seconds within which a verb must get through. One that waits for the transaction never does.
WITHIN = 20.0


@pytest.fixture(params=["postgresql", "mariadb"])
def shop(request, tmp_path):
    """An app whose broker and store are one database, with an empty queue of its own."""
    url = request.getfixturevalue(f"{request.param}_url")
    DatabaseDriver(url).create_schema()
    settings = {
        "QUEUE_CONNECTION": "database",
        "DATABASE_URL": url,
        "RELEVO_VAR_DIR": str(tmp_path),
    }
    app = create_app(
        "shop",
        config.load(settings, None),
        result_backend="cache+memory://",
        task_default_queue=f"q-{uuid.uuid4().hex[:8]}",
    )
    app.url = url
    define_tasks(app)
    yield app
    with app.connection_for_write() as connection:
        driver = connection.default_channel.driver
        driver.clear(app.conf.task_default_queue)
        driver.delete(
            view.id for view in driver.peek(app.conf.task_default_queue, State.RESERVED, 99)
        )
    app.close()


def define_tasks(app):
    @app.task(name="plain", shared=False)
    def plain(number): ...

    @app.task(name="fair", fair_by=lambda **_: KEY, shared=False)
    def fair(number): ...

    @app.task(name="unique", unique_by=lambda **_: KEY, shared=False)
    def unique(number): ...

    @app.task(name="fair_unique", unique_by=lambda **_: KEY, fair_by=lambda **_: KEY, shared=False)
    def fair_unique(number): ...

    @app.task(name="replaced", unique_by=lambda **_: KEY, on_conflict="replace", shared=False)
    def replaced(number): ...

    @app.task(name="debounced", unique_by=lambda **_: KEY, debounce=60, shared=False)
    def debounced(number): ...


TASKS = ["plain", "fair", "unique", "fair_unique", "replaced", "debounced"]
WAYS = {
    **{name: lambda app, session, name=name: one(app, name, session) for name in TASKS},
    "batch": lambda app, session: app.batch(everything(app)).dispatch(session=session),
    "chain": lambda app, session: app.chain(*everything(app)).dispatch(session=session),
}


def one(app, name, session):
    app.tasks[name].dispatch(number=1, session=session)


def everything(app):
    return [app.tasks[name].si(number=number) for name in TASKS for number in (1, 2)]


class Others:
    """What workers and other callers do meanwhile, on connections of their own."""

    def __init__(self, app, held):
        self.app, self.held = app, held
        self.queue = app.conf.task_default_queue
        self.driver = DatabaseDriver(app.url)
        self.delivery = delivery_of(app)

    def put(self):
        for name in TASKS:
            assert self.app.tasks[name].dispatch(number=2).id
        self.driver.put([job(self.queue, unique_key=f"x{n}", fair_key=KEY) for n in (1, 2)])

    def hold_leases(self):
        assert self.driver.extend(self.held, LEASE) == []
        assert self.driver.unlock(self.held) == len(self.held)
        assert self.driver.release(self.held[1:], payload="{}") == len(self.held[1:])

    def reserve(self):
        self.driver.reserve([self.queue], 10, LEASE, "worker", done=self.held[:1])
        self.driver.rescue()

    def record(self):
        now = self.driver.now()
        ended = EndedJob("ended", "plain", "database", self.queue, Ended.COMPLETED, 1, now)
        outcomes.write(self.delivery.store, [Ending(job=ended)], self.delivery.hand_in)
        batch = self.app.batch([self.app.tasks["plain"].si(number=1)])
        batch = batch.finally_(self.app.tasks["unique"].si(number=1)).dispatch()
        member = MemberEnd(batch.id, 0, "completed", "member")
        outcomes.write(self.delivery.store, [Ending(members=(member,))], self.delivery.hand_in)
        assert batch.refresh().finished_at

    def tidy(self):
        outcomes.prune(self.delivery.store, Retention(1, 1, 1))
        schedules.prune(self.delivery.store, self.driver.now())
        self.delivery.forward_all()
        limits = DatabaseLimits(self.app.url, self.driver.now, self.driver.rescue)
        [held] = take(self.driver, f"{self.queue}-limited")
        assert limits.take("key", 5, Holder(held.lease.token, held.id, "plain")) == 0
        limits.forget_unused()

    def look(self):
        waiting = [view.id for view in self.driver.peek(self.queue, State.DELAYED)]
        self.driver.hasten(waiting)
        self.driver.clear(self.queue)


@pytest.mark.parametrize("state", [State.RESERVED, State.PENDING])
@pytest.mark.parametrize("way", WAYS)
def test_an_open_transaction_holds_up_nobody(shop, way, state):
    # Given living jobs that have the unique keys, and others that wait in the fair queue
    driver, queue = DatabaseDriver(shop.url), shop.conf.task_default_queue
    living = [shop.tasks[name].dispatch(number=0).id for name in TASKS if name != "plain"]
    driver.hasten(living)
    running = take(driver, queue) if state is State.RESERVED else []
    driver.put([job(queue, id=f"fair{n}", fair_key=KEY) for n in range(2)])
    driver.put([job(f"{queue}-limited", id="limited")])

    # When a user dispatches in a transaction that stays open
    with opened(shop) as session:
        WAYS[way](shop, session)
        session.flush()

        # I expect whatever others do meanwhile to be done
        others = Others(shop, [each.lease for each in running])
        for verb in (others.put, others.hold_leases, others.reserve, others.record):
            run(verb)
        run(others.tidy)
        run(others.look)
        session.commit()
    driver.delete(["limited"])


@contextlib.contextmanager
def opened(shop):
    engine = make_engine(shop.url)
    with Session(engine) as session:
        yield session
    engine.dispose()


def run(verb):
    ended, errors = threading.Event(), []

    def work():
        try:
            verb()
        except BaseException as error:  # noqa: BLE001  told to the test
            errors.append(error)
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    eventually(ended.is_set, lambda: f"{verb.__name__} waits for the transaction", within=WITHIN)
    if errors:
        raise errors[0]


@pytest.mark.parametrize("name", TASKS)
def test_what_was_dispatched_in_a_session_is_there_after_the_commit(shop, name):
    driver, queue = DatabaseDriver(shop.url), shop.conf.task_default_queue
    with opened(shop) as session:
        one(shop, name, session)
        assert driver.sizes(queue).pending == driver.sizes(queue).delayed == 0
        session.rollback()
        shop.tasks[name].dispatch(number=2, session=session)
        session.commit()
    sizes = driver.sizes(queue)
    assert sizes.pending + sizes.delayed == 1


def test_the_fair_jobs_of_a_session_get_turns_in_their_order(shop):
    driver, queue = DatabaseDriver(shop.url), shop.conf.task_default_queue
    driver.put([job(queue, id=f"other{n}", fair_key="other") for n in range(4)])
    with opened(shop) as session:
        mine = [shop.tasks["fair"].dispatch(number=n, session=session).id for n in range(3)]
        session.commit()
    # Each process has a clock of its own, and one may be a moment behind.
    eventually(lambda: driver.sizes(queue).pending == 7)
    taken = ids(take(driver, queue))
    assert [each for each in taken if each in mine] == mine
    assert taken.index(mine[0]) < 2


def test_a_reservation_leaves_the_turns_that_another_transaction_is_giving(shop):
    driver, queue = DatabaseDriver(shop.url), shop.conf.task_default_queue
    driver.put([job(queue, id="first", fair_key=KEY)])

    # Given a process that stands still while it gives turns, and a job that waits for its turn
    with driver.connections.engine.begin() as connection:
        jobs.put(connection, [job(queue, fair_key=KEY)], driver.now())
        with opened(shop) as session:
            waiting = shop.tasks["fair"].dispatch(number=1, session=session).id
            session.commit()

        # I expect a worker to take what has its turn, and to leave the rest
        taken: list = []
        run(lambda: taken.extend(take(DatabaseDriver(shop.url), queue)))
        assert ids(taken) == ["first"]
    assert waiting in ids(take(DatabaseDriver(shop.url), queue))


@pytest.mark.parametrize("number", [1, 10, 100])
def test_the_verbs_of_a_holder_read_no_row_but_its_own(shop, number):
    # Given jobs that are most of the table, and one more in an open transaction
    driver, queue = DatabaseDriver(shop.url), shop.conf.task_default_queue
    driver.put([job(queue) for _ in range(number)])
    held = take(driver, queue, limit=number)
    leases = [each.lease for each in held]
    with opened(shop) as session:
        one(shop, "plain", session)

        # I expect their holder to do with them what it likes
        run(lambda: driver.extend(leases, LEASE))
        run(lambda: driver.unlock(leases))
        run(lambda: driver.release(leases[: number // 2], delay=60))
        run(lambda: driver.ack(leases[number // 2 :]))
        run(lambda: driver.delete(ids(held)))
        session.rollback()
    assert driver.find(ids(held)) == []
