"""`dispatched` is emitted for the jobs that a broker has, each once, however they came there."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.orm import Session

import relevo
from relevo import events
from relevo.drivers.contract import State
from relevo.errors import DriverUnavailableError
from relevo.store.store import store_for
from tests.support.batch_tasks import calls_of, finished, task_of, working
from tests.support.waits import eventually


@pytest.fixture
def app(batch_app):
    return batch_app


@pytest.fixture
def told(app) -> Iterator[Counter[str]]:
    """How often `dispatched` was emitted, by job."""
    app.batches.page()  # the tables are there: a rollback doesn't undo them
    jobs_at_the_broker(app)
    seen: Counter[str] = Counter()

    def note(event) -> None:
        assert (event.queue, event.attempt) == (app.conf.task_default_queue, 1)
        assert event.task.startswith(("shop.", "relevo."))
        seen[event.id] += 1

    relevo.on("dispatched")(note)
    yield seen
    events.remove(note)


def jobs_at_the_broker(app) -> Counter[str]:
    with app.connection_for_write() as connection:
        driver = connection.default_channel.driver
    return Counter(
        job.id
        for state in (State.PENDING, State.DELAYED)
        for job in driver.peek(app.conf.task_default_queue, state)
    )


@contextlib.contextmanager
def session_of(app) -> Iterator[Session]:
    with Session(store_for(app.settings.database_url).engine) as session:
        yield session


class _UndoneError(Exception):
    """Ends a block."""


# --- ways to dispatch, and the number of jobs that come of each -----------------------------------
def alone(app) -> int:
    task_of(app, "work").delay(1)
    return 1


def delayed(app) -> int:
    task_of(app, "work").apply_async((1,), countdown=600)
    return 1


def committed(app) -> int:
    work = task_of(app, "work")
    with session_of(app) as session:
        work.dispatch(1, session=session)
        with session.begin_nested():
            work.dispatch(2, session=session)
        with session.begin_nested() as savepoint:
            work.dispatch(3, session=session)
            savepoint.rollback()
        app.batch([work.s(4), work.s(5)]).before(work.si(6)).then(work.si(7)).dispatch(
            session=session
        )
        app.chain(work.si(8), work.si(9)).catch(work.si(10)).dispatch(session=session)
        session.commit()
    return 6


def rolled_back(app) -> int:
    work = task_of(app, "work")
    with session_of(app) as session:
        work.dispatch(1, session=session)
        app.batch([work.s(4), work.s(5)]).before(work.si(6)).dispatch(session=session)
        app.chain(work.si(8), work.si(9)).dispatch(session=session)
        session.rollback()
        work.dispatch(2, session=session)
        session.close()
    return 0


def together(app) -> int:
    work = task_of(app, "work")
    with app.producer_or_acquire() as producer, producer.batch(max_size=2):
        for number in range(5):
            work.apply_async((number,), producer=producer)
    return 5


def together_and_undone(app) -> int:
    work = task_of(app, "work")
    with (
        contextlib.suppress(_UndoneError),
        app.producer_or_acquire() as producer,
        producer.batch(max_size=2),
    ):
        for number in range(3):
            work.apply_async((number,), producer=producer)
        raise _UndoneError
    return 2


def in_a_batch(app) -> int:
    work = task_of(app, "work")
    app.batch([work.s(1), [work.si(2), work.si(3)]]).before(work.si(4)).then(work.si(5)).catch(
        work.si(6)
    ).dispatch()
    return 3


def in_a_batch_whose_members_end(app) -> int:
    work = task_of(app, "work")

    def members():
        yield work.s(1)
        raise _UndoneError

    with contextlib.suppress(_UndoneError):
        app.batch(members()).then(work.si(2)).dispatch()
    return 0


def in_a_chain(app) -> int:
    work = task_of(app, "work")
    app.chain(work.si(1), work.si(2)).then(work.si(3)).dispatch()
    return 1


WAYS = [
    alone,
    delayed,
    committed,
    rolled_back,
    together,
    together_and_undone,
    in_a_batch,
    in_a_batch_whose_members_end,
    in_a_chain,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_exactly_the_jobs_that_the_broker_has_are_told(app, told, way: Callable[[object], int]):
    assert way(app) == sum(jobs_at_the_broker(app).values())
    assert told == jobs_at_the_broker(app)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_a_broker_refuses_is_not_told(app, told, monkeypatch, way):
    with app.connection_for_write() as connection:
        driver = connection.default_channel.driver

    def refuse(*_):
        raise DriverUnavailableError("away")

    monkeypatch.setattr(type(driver), "put", refuse)
    if app.settings.queue_connection == "database":
        for name in ("put", "hand_in"):
            monkeypatch.setattr(f"relevo.drivers.database.jobs.{name}", refuse)
    app.conf.task_publish_retry = False
    with contextlib.suppress(Exception):
        way(app)
    assert told == Counter()


def test_callbacks_and_links_are_told_when_they_are_put_each_once(app, told, calls):
    work, say = task_of(app, "work"), task_of(app, "say")
    with working(app):
        batch = app.batch([work.s(1), work.s(2, fails=True)]).allow_failures(say.s("one"))
        batch = finished(
            batch.before(say.s("before"))
            .progress(say.s("progress"))
            .then(say.s("then"))
            .catch(say.s("catch"))
            .finally_(say.s("finally"))
            .dispatch()
        )
        chain = finished(app.chain(work.si(3), work.si(4)).finally_(say.s("ended")).dispatch())
        eventually(lambda: calls_of("finally") and calls_of("ended") and calls_of("catch"))
        eventually(lambda: calls_of("one"))
    assert set(told.values()) == {1}
    names = {name.removeprefix(f"{batch.id}.") for name in told if name.startswith(batch.id)}
    progress = {name for name in names if name.startswith("progress")}
    assert "progress.100" in progress
    assert names - progress == {"0", "1", "before", "failure.1", "catch", "finally"}
    assert len(told) == len(names) + 3
    assert f"{chain.id}.finally" in told


def test_a_listener_may_dispatch(app, told, calls):
    work = task_of(app, "work")

    def follow(event) -> None:
        if event.id == "first":
            work.apply_async((2,), task_id="second")

    relevo.on("dispatched")(follow)
    try:
        with session_of(app) as session:
            work.apply_async((1,), task_id="first", session=session)
            session.commit()
    finally:
        events.remove(follow)
    assert told == Counter(["first", "second"])
