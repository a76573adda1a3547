"""A cleared queue: batches, chains and chords count their cleared members, on every driver."""

from __future__ import annotations

import pytest
from celery import chord, current_app
from click.testing import CliRunner

from relevo import config
from relevo.app import create_app
from relevo.cli.queues import queues as queues_command
from relevo.dispatch.delivery import delivery_of
from relevo.drivers import driver_for
from relevo.drivers.contract import NewJob, State
from relevo.operations import cancel, clear
from relevo.store import outbox

QUEUE = "cleared"
BROKERS = ["sqlite", "sqlite apart", "postgresql", "mariadb", "redis", "memory"]


@pytest.fixture(scope="module", params=BROKERS)
def app(request, tmp_path_factory):
    """An app on this broker, its store a file: the broker's own file for the first."""
    folder = tmp_path_factory.mktemp("cleared")
    store = f"sqlite:///{folder}/relevo.sqlite3"
    said = {
        "QUEUE_CONNECTION": "database",
        "DATABASE_URL": store,
        "RELEVO_VAR_DIR": str(folder),
        "QUEUE_RESULTS": "database",
    }
    url = {
        "sqlite": store,
        "sqlite apart": f"sqlite:///{folder}/broker.sqlite3",
        "memory": "relevo://cleared",
    }
    broker = url.get(request.param) or request.getfixturevalue(f"{request.param}_url")
    app = create_app("shop", config.load(said, None), task_default_queue=QUEUE, broker_url=broker)

    @app.task(name="work", shared=False)
    def work(number=0): ...

    @app.task(name="told", shared=False)
    def told(batch, what): ...

    if request.param in ("postgresql", "mariadb"):
        driver_for(broker).create_schema()
    return app


@pytest.fixture(autouse=True)
def current(app):
    """Apps of other tests are on this broker, too."""
    before = current_app._get_current_object()
    app.set_current()
    yield
    before.set_current()


@pytest.fixture
def driver(app):
    driver = delivery_of(app).broker_of("database")
    driver.clear(QUEUE)
    return driver


def waiting(driver):
    return sorted(job.id for state in State for job in driver.peek(QUEUE, state))


@pytest.fixture
def groups(app, driver, monkeypatch):
    """A batch with a chain in it, a chain, and a chord, and between them jobs of no batch."""
    monkeypatch.setattr(clear, "PAGE", 3)
    work, told = app.tasks["work"], app.tasks["told"]
    work.delay()
    members = [work.si(1), [work.si(2), work.si(3)], work.si(4).set(countdown=600), work.si(5)]
    batch = (
        app.batch(members)
        .then(told.s("then"))
        .catch(told.s("catch"))
        .finally_(told.s("finally"))
        .dispatch()
    )
    work.apply_async(countdown=600)
    line = app.chain(work.si(1), work.si(2)).finally_(told.s("finally")).dispatch()
    joined = chord([work.si(1), work.si(2)], work.s()).apply_async()
    work.delay()
    return batch, line, app.batches.find(joined.parent.id)


def hear_of_it(groups):
    return [
        (each.refresh().finished, each.dropped, each.completed, each.failed, each.cancelled)
        for each in groups
    ]


ALL_DROPPED = [(True, 4, 0, 0, False), (True, 1, 0, 0, False), (True, 2, 0, 0, False)]


def callbacks(groups):
    batch, line, joined = (each.id for each in groups)
    return sorted([f"{batch}.finally", f"{line}.finally", f"{joined}.joined"])


def command(app):
    class Context:
        pass

    Context.app = app
    return CliRunner().invoke(
        queues_command, ["clear", QUEUE, "--yes"], obj=Context, catch_exceptions=False
    )


def test_batches_count_their_cleared_members_and_keep_their_callbacks(app, driver, groups):
    assert "10 jobs deleted" in command(app).output
    assert hear_of_it(groups) == ALL_DROPPED
    assert waiting(driver) == callbacks(groups)
    assert outbox.status(delivery_of(app).store) == []


def test_members_cleared_by_celery_or_kombu_are_counted_too(app, driver, groups):
    with app.connection_for_write() as connection:
        assert connection.default_channel.queue_purge(QUEUE) == 10
        assert hear_of_it(groups) == ALL_DROPPED
        assert waiting(driver) == callbacks(groups)
        batch = app.batch([app.tasks["work"].si(1)]).dispatch()
        queue = app.amqp.queues[QUEUE].bind(connection.default_channel)
        queue.declare()
        queue.delete()
    assert batch.refresh().finished
    again = app.batch([app.tasks["work"].si(1)]).dispatch()
    assert app.control.purge() == 1
    assert again.refresh().dropped == 1


def test_of_several_apps_on_one_broker_the_current_one_counts_the_members(
    app, driver, groups, tmp_path
):
    said = {
        "QUEUE_CONNECTION": "database",
        "DATABASE_URL": f"sqlite:///{tmp_path}/other.db",
        "RELEVO_VAR_DIR": str(tmp_path),
    }
    others = [
        create_app("other", config.load(said, None), broker_url=app.conf.broker_url)
        for _ in range(8)
    ]
    app.set_current()
    assert app.control.purge() == 10
    assert hear_of_it(groups) == ALL_DROPPED
    for other in others:
        other.close()


def test_running_jobs_go_on(app, driver, groups):
    held = {job.id for job in driver.reserve([QUEUE], 3, 60, "worker")}
    clear.clear(app, driver, QUEUE)
    batch = groups[0].refresh()
    assert (batch.total, batch.pending, batch.dropped, batch.finished) == (4, 2, 2, False)
    assert held <= set(waiting(driver))
    driver.delete(held)


@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_clear_that_dies_before_or_after_the_count_can_be_repeated(
    app, driver, groups, monkeypatch, when
):
    count_as_cancelled = cancel.count_as_cancelled

    def dies(*given):
        if when == "behind":
            count_as_cancelled(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cancel, "count_as_cancelled", dies)
        with pytest.raises(KeyboardInterrupt):
            clear.clear(app, driver, QUEUE)
    clear.clear(app, driver, QUEUE)
    assert hear_of_it(groups) == ALL_DROPPED


def test_a_queue_without_members_asks_the_store_for_nothing(app, driver, monkeypatch):
    monkeypatch.setattr(
        type(delivery_of(app)), "store", property(lambda self: pytest.fail("the store was asked"))
    )
    driver.put([NewJob(QUEUE, "not JSON", f"job-{n}") for n in range(5)])
    assert clear.clear(app, driver, QUEUE) == 5
