"""The jobs that a fake takes, how it begins and ends, and that it restores everything."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest
from celery import chain
from kombu.exceptions import EncodeError
from sqlalchemy.orm import Session

from relevo import clock, config
from relevo.database.engine import make_engine
from relevo.errors import FakeError, OptionError, UnknownTaskError
from relevo.task import Task
from relevo.testing import fake
from tests.support.unreachable_app import REFUSED, make_app


def traces(app):
    """Everything that a fake replaces."""
    names = ("send_task", "send_batch", "send_in_session", "_backend_cache")
    return (
        {name: value for name, value in vars(app).items() if name in names},
        vars(app.amqp).get("send_task_message"),
        app.amqp._producer_pool,
        app.conf.changes.get("task_always_eager", "not there"),
        Task.progress,
        clock.now,
        type(app.backend).on_task_call,
    )


WAYS = [
    lambda send, app: send.dispatch("ada"),
    lambda send, app: send.delay("ada"),
    lambda send, app: send.apply_async(("ada",)),
    lambda send, app: send.on_queue("default").delay_for(1).dispatch("ada"),
    lambda send, app: send.s("ada").delay(),
    lambda send, app: send.s("ada").apply_async(),
    lambda send, app: app.send_task("shop.mail", ("ada",)),
    lambda send, app: send.s().apply_async(("ada",)),
]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_dispatching_is_recorded(app, queue, send, way):
    way(send, app)
    [record] = queue.all()
    assert (record.task, record.args, record.kwargs, record.queue) == (
        "shop.mail",
        ("ada",),
        {},
        "default",
    )


def test_a_record_has_all_about_a_dispatch(queue, process):
    process.with_options(timeout=30).on_queue("low").delay_for(60).dispatch(7, size=150)
    record = queue.assert_dispatched_once(process)
    assert (record.args, record.kwargs, record.queue, record.delay) == (
        (7,),
        {"size": 150},
        "low",
        60,
    )
    assert (record.tags, record.options["timeout"], record.attempt) == (("file:7",), 30, 1)
    assert record.available_at == record.dispatched_at + 60


def test_a_dispatch_returns_the_usual_result(queue, send):
    result = send.delay("ada")
    assert result.id == queue.all()[0].id
    assert send.when(False).dispatch("ada") is None


def test_an_invalid_dispatch_is_the_same_error_as_without_a_fake(queue, send):
    with pytest.raises(TypeError):
        send.delay()
    with pytest.raises(OptionError, match="no queue named 'hihg'"):
        send.on_queue("hihg")
    with pytest.raises(EncodeError):
        send.delay(object())
    queue.assert_nothing_dispatched()


def test_without_a_fake_the_broker_is_used(app, send):
    with fake(app=app):
        send.delay("ada")
    with pytest.raises(REFUSED):
        send.delay("ada")


def test_a_fake_can_take_only_some_tasks(app, send, process):
    with fake(only=[send], app=app) as queue:
        send.delay("ada")
        with pytest.raises(REFUSED):
            process.delay(7)
    queue.assert_count(1)


def test_a_fake_can_take_all_but_some_tasks(app, send, process):
    with fake(except_=["shop.mail"], app=app) as queue:
        process.delay(7)
        with pytest.raises(REFUSED):
            send.delay("ada")
    queue.assert_count(1)


def test_an_unknown_task_is_an_error_with_the_likely_name(app, queue):
    for wrong in (
        lambda: fake(only=["shop.mial"], app=app),
        lambda: queue.assert_not_dispatched("shop.mial"),
        lambda: queue.run("shop.mial"),
        lambda: queue.assert_chained(["shop.mial", "math.add"]),
    ):
        with pytest.raises(
            UnknownTaskError, match=r"no task named 'shop\.mial'; did you mean 'shop\.mail'"
        ):
            wrong()
    with pytest.raises(OptionError, match="expected a task or its name, got 7"):
        queue.assert_dispatched(7)


def test_a_task_of_another_program_can_be_asserted_and_not_be_run(app, queue):
    app.send_task("billing.charge", (7,), queue="low")
    queue.assert_dispatched_on("low", "billing.charge", args=(7,))
    with pytest.raises(UnknownTaskError, match=r"can't run 'billing\.charge'"):
        queue.drain()


@pytest.mark.parametrize("chosen", [{}, {"only": ["shop.mail"]}])
def test_everything_is_restored_after_an_exception(app, send, chosen):
    before = traces(app)
    queue = fake(app=app, **chosen)

    def use():
        with queue:
            send.delay("ada")
            queue.travel(5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert traces(app) == before
    assert queue.assert_dispatched_once(send)


def test_the_innermost_fake_that_takes_a_task_gets_its_jobs(app, send, process):
    before = traces(app)
    with fake(app=app) as outer:
        with fake(only=[send], app=app) as inner:
            send.delay("ada")
            process.delay(7)
        send.delay("bob")
    assert [record.args for record in inner.all()] == [("ada",)]
    assert [record.args for record in outer.all()] == [(7,), ("bob",)]
    assert traces(app) == before


def test_fakes_may_end_in_another_order_than_they_began(app, send):
    before = traces(app)
    first, second = fake(app=app), fake(app=app)
    first.__enter__()
    second.__enter__()
    first.travel(5)
    second.travel(7)
    first.__exit__()
    send.delay("ada")
    second.assert_count(1)
    second.__exit__()
    assert traces(app) == before


def test_two_apps_have_separate_fakes(app, send):
    other = make_app()
    with fake(app=app) as queue, fake(app=other) as others:
        send.delay("ada")
    queue.assert_count(1)
    others.assert_nothing_dispatched()


def test_a_fake_is_entered_once_at_a_time_and_runs_nothing_when_it_has_ended(app, send):
    queue = fake(app=app)
    with queue, pytest.raises(FakeError, match="active already"):
        queue.__enter__()
    for late in (queue.drain, lambda: queue.run(send, "ada"), lambda: queue.travel(1)):
        with pytest.raises(FakeError, match="not active"):
            late()


def test_dispatches_of_many_threads_are_all_there(queue, send):
    threads = [
        threading.Thread(target=lambda n=n: [send.delay(f"{n}-{m}") for m in range(25)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {record.args[0] for record in queue.all()} == {
        f"{n}-{m}" for n in range(8) for m in range(25)
    }
    queue.assert_count(200)


def test_two_threads_that_drain_run_each_job_once(app, queue):
    ran = []

    @app.task(name="note", shared=False)
    def note(number):
        ran.append(number)

    for number in range(100):
        note.delay(number)
    threads = [threading.Thread(target=queue.drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == list(range(100))


def test_an_eager_app_is_faked_too(send):
    app = make_app(task_always_eager=True)
    ran = []

    @app.task(name="note", shared=False)
    def note(number):
        ran.append(number)

    with fake(app=app) as queue:
        note.delay(1)
        queue.assert_dispatched_once(note)
        assert ran == []
    note.delay(2)
    assert ran == [2]


def test_an_eager_app_runs_the_jobs_that_a_fake_leaves_chains_included():
    app = make_app(task_always_eager=True, task_eager_propagates=True)
    ran = []

    @app.task(name="note", shared=False)
    def note(number):
        ran.append(number)
        return number + 1

    @app.task(name="other", shared=False)
    def other(number): ...

    with fake(only=[other], app=app) as queue:
        chain(note.s(1), note.s(), other.s())()
        note.delay(7)
    assert ran == [1, 2, 7]
    queue.assert_dispatched_once(other, args=(3,))


def test_as_a_decorator_each_call_has_a_new_fake(app, send):
    seen = []

    @fake(app=app)
    def upload(name, fake):
        send.delay(name)
        fake.assert_count(1)
        seen.append(fake)

    upload("ada")
    upload(name="bob")
    assert seen[0] is not seen[1]
    assert list(inspect.signature(upload).parameters) == ["name"]


def test_a_decorated_function_may_take_no_fake_and_may_be_a_coroutine(app, send):
    @fake(app=app)
    def quiet():
        return send.delay("ada")

    @fake(app=app)
    async def later(fake):
        await asyncio.sleep(0)
        send.delay("ada")
        fake.assert_count(1)
        return "done"

    assert quiet().id
    assert asyncio.run(later()) == "done"
    with pytest.raises(REFUSED):
        send.delay("ada")


def test_producers_and_batches_send_nothing_either(app, queue, send):
    with app.producer_or_acquire() as producer, producer.batch():
        send.apply_async(("ada",), producer=producer)
    queue.assert_dispatched_once(send)


def test_a_dispatch_in_a_transaction_is_recorded_when_it_commits(
    queue, app, process, send, tmp_path
):
    app.settings = config.load({"DATABASE_URL": f"sqlite:///{tmp_path}/relevo.sqlite3"}, None)
    with Session(make_engine(app.settings.database_url)) as session:
        process.dispatch(7, session=session)
        chain(process.si(8), send.si("ada")).apply_async(session=session)
        app.batch([send.s("bob")]).dispatch(session=session)
        app.chain(send.si("bob"), process.si(9)).dispatch(session=session)
        queue.assert_nothing_dispatched()
        assert queue.chains() == []
        queue.assert_nothing_batched()
        session.commit()
        queue.assert_dispatched_once(process, args=(7,))
        queue.assert_chained([process, send])
        queue.assert_chained([send.si("bob"), process.si(9)])
        assert len(queue.chains()) == 1
        queue.assert_batch_count(1)
        send.dispatch("carol", session=session)
        app.batch([send.s("carol")]).dispatch(session=session)
        session.rollback()
        session.commit()
    queue.assert_not_dispatched(send, args=("carol",))
    queue.assert_batch_count(1)
