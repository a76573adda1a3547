"""The options of an entry, and the ends of its runs."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import click
import pytest
from celery.beat import BeatLazyFunc
from celery.schedules import crontab
from celery.signals import celeryd_init
from kombu.utils.imports import symbol_by_name
from pydantic import BaseModel

from relevo import config
from relevo.app import create_app
from relevo.drivers import driver_for
from relevo.drivers.contract import State
from relevo.errors import DriverError, OptionError
from relevo.operations import cancel, clear
from relevo.recording import endings
from relevo.schedule import claim, operations
from relevo.schedule.beat import Scheduler
from relevo.schedule.entry import CLEANUP, entries_of
from relevo.store import audit, outbox, outcomes, schedules
from tests.support.clockwork import QUEUE, at

NOON = crontab(minute=0, hour=12)
GOOD = {"task": "shop.count", "schedule": NOON}


@pytest.mark.parametrize(
    ("definition", "complaint"),
    [
        (None, "expected a dict with task and schedule, got None"),
        ({"schedule": NOON}, "expected a task, got None"),
        ({"task": "shop.count"}, "expected a schedule, got None"),
        (
            {"task": "shop.count", "schedule": "0 12 * * *"},
            r"expected schedule to be seconds, .* got '0 12 \* \* \*'",
        ),
        ({"task": "shop.count", "schedule": object()}, "expected schedule to be seconds"),
        ({"task": "shop.count", "schedule": -5}, "expected an interval of at least 0.1 s, got -5"),
        ({"task": "shop.count", "schedule": 1e14}, "must have magnitude"),
        (
            {"task": "shop.count", "schedule": timedelta.max},
            "expected a schedule that comes, 'Every .*' never does",
        ),
        ({**GOOD, "args": [object()]}, "Object of type object is not JSON serializable"),
        (
            {
                **GOOD,
                "task": "other.count",
                "kwargs": {"of": {1}},
                "options": {"serializer": "nosj"},
            },
            "nosj",
        ),
        ({**GOOD, "catchup": "one"}, "got 'catchup'; did you mean 'catch_up'"),
        (
            {**GOOD, "catch_up": "alll"},
            "expected catch_up to be one, none, all, got 'alll'; did you mean 'all'",
        ),
        ({**GOOD, "catch_up_limit": 0}, "expected catch_up_limit to be a whole number"),
        ({**GOOD, "catch_up_window": "1h"}, "expected catch_up_window to be seconds"),
        ({**GOOD, "args": 7}, "a list of args, got 'shop.count' and 7"),
        ({**GOOD, "options": ["low"]}, "expected dicts as kwargs and options"),
        (
            {**GOOD, "options": {"queue": "hihg"}},
            "no queue named 'hihg' in task_queues; did you mean 'high'",
        ),
        (
            {**GOOD, "options": {"connection": "datbase"}},
            "no connection named 'datbase'; did you mean 'database'",
        ),
        (
            {**GOOD, "options": {"connection": "sync"}},
            "expected a connection that keeps a queue, got 'sync'",
        ),
        ({**GOOD, "options": {"tries": -1}}, "tries"),
        (
            {**GOOD, "options": {"countdown": "soon"}},
            "the option countdown to be a number of seconds, got 'soon'",
        ),
        (
            {**GOOD, "options": {"expires": True}},
            "expires to be a number of seconds or a datetime, got True",
        ),
        ({**GOOD, "options": {"headers": "x"}}, "the option headers to be a dict, got 'x'"),
        (
            {**GOOD, "options": {"connection": "database", "queue": "q" * 256}},
            "queue to have 1 to 255 characters",
        ),
        (
            {**GOOD, "kwargs": {"number": 7}, "task": "shop.strict"},
            "unexpected keyword argument 'number'",
        ),
    ],
)
def test_an_invalid_entry_is_an_error_that_names_it(small, definition, complaint):
    app = small.deployed(**{"every noon": definition})
    app.conf.task_queues = ["high"]

    @app.task(name="shop.strict", shared=False)
    def strict():
        """Takes nothing."""

    with pytest.raises(OptionError, match=f"entry 'every noon' of beat_schedule: .*{complaint}"):
        entries_of(app)


@pytest.mark.parametrize("name", ["", " ", "x" * 256, 7])
def test_a_name_that_can_not_be_stored_is_an_error(small, name):
    app = small.deployed()
    app.conf.beat_schedule = {name: GOOD}
    with pytest.raises(OptionError, match="expected its name to be a text of 1 to 255 characters"):
        entries_of(app)


@pytest.mark.parametrize("name", ["no\0n", "\udcff"])
def test_a_name_that_no_database_takes_is_an_error(small, name):
    with pytest.raises(OptionError, match="expected its name to be a text"):
        entries_of(small.deployed(**{name: GOOD}))
    assert schedules.page(small.store, name) == []


def test_a_nearly_known_option_is_warned_of(small, caplog):
    caplog.set_level("WARNING", logger="relevo")
    small.beat(noon={**GOOD, "options": {"quue": "low", "x-of-our-own": 1, "expires": 60}})
    assert (
        "entry 'noon': no option named 'quue'; did you mean 'queue'? It travels with the message."
        in caplog.text
    )
    assert caplog.text.count("no option named") == 1


class Order(BaseModel):
    number: int


def test_models_of_pydantic_are_arguments_of_an_entry(small):
    app = small.deployed()

    @app.task(name="shop.order", pydantic=True, shared=False)
    def order(given: Order):
        """Takes a model."""

    app.conf.beat_schedule = {
        "noon": {"task": "shop.order", "schedule": 60.0, "args": [Order(number=7)]}
    }
    small.to("03-01 12:01", small.beat(app))
    assert len(small.jobs()) == 1


def test_an_invalid_entry_ends_the_command_with_one_line(small, capsys):
    with click.Context(click.Command("beat")), pytest.raises(SystemExit, match="2"):
        Scheduler(small.deployed(noon={"task": "shop.count"}))
    assert (
        capsys.readouterr().err
        == "Error: entry 'noon' of beat_schedule: expected a schedule, got None\n"
    )


def test_an_invalid_entry_ends_the_start_of_a_worker_with_a_beat(small, capsys):
    app = small.deployed(noon={"task": "shop.count"})
    started = {"instance": SimpleNamespace(app=app), "sender": "a@here"}
    with click.Context(click.Command("worker")), pytest.raises(SystemExit, match="2"):
        celeryd_init.send(**started, options={"beat": True})
    assert (
        capsys.readouterr().err
        == "Error: entry 'noon' of beat_schedule: expected a schedule, got None\n"
    )
    celeryd_init.send(**started, options={"beat": False})
    celeryd_init.send(**started, options={"beat": True, "scheduler": "another:Scheduler"})


def test_entries_that_are_added_when_the_app_is_complete_are_found(small):
    app = small.deployed()

    def add(sender, **_signal):
        sender.add_periodic_task(60.0, sender.tasks["shop.count"].s(), name="added")

    app.on_after_finalize.connect(add)
    assert set(entries_of(app)) == {"added"}


def test_a_task_of_another_project_is_dispatched_by_its_name(small, caplog):
    caplog.set_level(
        "WARNING", logger="relevo"
    )  # a worker in this process may have set another for all
    beat = small.beat(there={"task": "shop.cuont", "schedule": 60.0, "options": {"queue": "there"}})
    assert "no task named 'shop.cuont' here; did you mean 'shop.count'?" in caplog.text
    small.to("03-01 12:01", beat)
    assert small.jobs() == [small.runs()[0].job_id]


def test_the_options_of_an_entry_reach_the_job(small):
    beat = small.beat(
        noon={
            "task": "shop.count",
            "schedule": 60.0,
            "args": [1, BeatLazyFunc(lambda: 2)],
            "kwargs": {"word": "ja"},
            "options": {
                "queue": "high",
                "connection": "database",
                "expires": 30,
                "headers": {"own": 1},
            },
            "catch_up": "all",
            "catch_up_window": timedelta(hours=1),
        }
    )
    small.to("03-01 12:01", beat)
    assert beat.schedule["noon"].rule.window == 3600
    assert operations.views(beat.app)[0].entry.queue == "high"
    assert len(small.jobs()) == 1


def test_celerys_cleanup_of_results_is_an_entry_where_results_have_to_be_cleaned_up(
    small, tmp_path
):
    assert CLEANUP not in entries_of(small.app)
    given = {
        "DATABASE_URL": small.url,
        "RELEVO_VAR_DIR": str(tmp_path),
        "QUEUE_RESULTS": "database",
    }
    app = create_app("shop", config.load(given, None), beat_schedule={"noon": GOOD})
    assert set(entries_of(app)) == {CLEANUP, "noon"}


def test_beat_uses_our_scheduler_unless_jobs_run_inline_or_another_is_set(tmp_path):
    def scheduler(connection, **options):
        given = {"QUEUE_CONNECTION": connection, "RELEVO_VAR_DIR": str(tmp_path)}
        return create_app("shop", config.load(given, None), **options).conf.beat_scheduler

    assert scheduler("database") == "relevo.schedule.beat:Scheduler"
    assert scheduler("sync") == "relevo.schedule.inline:Scheduler"
    assert (
        scheduler("redis", beat_scheduler="redbeat.RedBeatScheduler") == "redbeat.RedBeatScheduler"
    )


def test_where_jobs_run_inline_beat_runs_them_itself_and_ignores_catch_up(tmp_path, capsys):
    app, ran = (
        create_app(
            "shop", config.load({"QUEUE_CONNECTION": "sync", "RELEVO_VAR_DIR": str(tmp_path)}, None)
        ),
        [],
    )

    @app.task(name="shop.count", shared=False)
    def count():
        ran.append(1)

    app.conf.beat_schedule = {
        "noon": {"task": "shop.count", "schedule": 0.1, "catch_up": "all", "catch_up_window": 9}
    }
    scheduler = symbol_by_name(app.conf.beat_scheduler)
    for _ in range(2):  # the second scheduler reads the file of the first
        beat = scheduler(app=app, schedule_filename=str(tmp_path / "kept"))
        beat.apply_entry(beat.reserve(beat.schedule["noon"]))
        beat.close()
    assert ran == [1, 1]
    app.conf.beat_schedule["noon"]["catch_up"] = "alll"
    with click.Context(click.Command("beat")), pytest.raises(SystemExit, match="2"):
        scheduler(app=app, schedule_filename=str(tmp_path / "kept"))
    assert "entry 'noon' of beat_schedule" in capsys.readouterr().err


def test_where_jobs_run_inline_no_entry_can_be_run_by_hand(small):
    app = small.deployed(noon=GOOD)
    app.conf.task_always_eager = True
    with pytest.raises(
        OptionError, match="the connection 'sync' runs jobs at once and keeps no queue"
    ):
        operations.run(app, "noon", "ann")
    assert small.runs() == []


# --- how a run ended ------------------------------------------------------------------------------
def request(app, run, **headers):
    return SimpleNamespace(
        app=app,
        id=run.job_id,
        type="shop.count",
        delivery_info={},
        time_start=None,
        request_dict={"schedule_entry": run.entry, "properties": {}, **headers},
    )


@pytest.mark.parametrize("history", ["all", "failed", "none"])
def test_how_the_job_of_a_run_ended_is_kept_with_the_run(small, history):
    small.environ["RELEVO_HISTORY"] = history
    beat = small.beat(noon={"task": "shop.count", "schedule": 60.0})
    for minute in (1, 2, 3):
        small.to(f"03-01 12:0{minute}", beat)
    done, cancelled, unreadable = small.runs()
    assert [run.state for run in operations.with_job_states(beat.app, small.runs())] == [
        "pending"
    ] * 3
    ends = [
        endings.for_completion(request(beat.app, done), 0.1),
        endings.for_cancellation(request(beat.app, cancelled), "no"),
    ]
    outcomes.write(small.store, ends)
    assert [run.state for run in small.runs()] == ["completed", "cancelled", None]
    outcomes.write(
        small.store, [outcomes.Ending(run=schedules.RunEnd(unreadable.job_id, "failed", 1.0))]
    )
    small.store.write(lambda connection: connection.exec_driver_sql("DELETE FROM relevo_history"))
    assert [run.state for run in small.runs()] == ["completed", "cancelled", "failed"]


def test_a_run_whose_job_is_cleared_or_deleted_was_cancelled(small):
    beat = small.beat(noon={"task": "shop.count", "schedule": 60.0})
    driver = driver_for(beat.app.conf.broker_url)
    small.to("03-01 12:01", beat)
    assert clear.clear(beat.app, driver, QUEUE) == 1
    small.to("03-01 12:02", beat)
    assert cancel.delete(beat.app, driver, small.store, small.jobs()) == 1
    assert [(run.state, run.ended_at is None) for run in small.runs()] == [("cancelled", False)] * 2


@pytest.mark.parametrize("elsewhere", [False, True], ids=["the store's broker", "another"])
def test_a_run_whose_unique_key_is_taken_is_cancelled(small, elsewhere, redis_url):
    if elsewhere:
        small.environ |= {"QUEUE_CONNECTION": "redis", "REDIS_URL": redis_url}
    app = small.deployed()

    @app.task(name="shop.once", unique_by=(), shared=False)
    def once():
        """One at a time."""

    app.conf.beat_schedule = {"noon": {"task": "shop.once", "schedule": 60.0}}
    beat = small.beat(app)
    small.to("03-01 12:01", beat)
    small.to("03-01 12:02", beat)
    assert operations.run(app, "noon", "ann").state == "cancelled"
    assert [run.state for run in small.runs()] == [None, "cancelled", "cancelled"]
    driver = driver_for(app.conf.broker_url)
    assert [job.id for job in driver.peek(QUEUE, State.PENDING, 9)] == [small.runs()[0].job_id]
    driver.clear(QUEUE)


def test_a_run_whose_job_is_refused_by_its_broker_has_failed(small, monkeypatch):
    beat = small.beat(noon={"task": "shop.count", "schedule": 60.0})
    run = claim.run_now(beat.delivery, beat.schedule["noon"], "ann")
    made = claim.build_sending(beat.schedule["noon"], run, ([], {}))
    refuse = lambda *_: (_ for _ in ()).throw(DriverError("too long"))  # noqa: E731
    small.store.write(lambda connection: outbox.add(connection, [made]))
    monkeypatch.setattr(type(beat.delivery), "put", refuse)
    monkeypatch.setattr(beat.delivery, "local_driver", lambda _: None)
    beat.delivery.forward_all()
    assert [run.state for run in small.runs()] == ["failed"]


def test_a_run_that_was_retried_is_shown_with_its_later_end_without_history_too(small):
    small.environ["RELEVO_HISTORY"] = "failed"
    beat = small.beat(noon={"task": "shop.count", "schedule": 60.0})
    small.to("03-01 12:01", beat)
    first = endings.for_cancellation(request(beat.app, small.runs()[0]), "no")
    again = endings.for_completion(request(beat.app, small.runs()[0]), 0.1)
    outcomes.write(small.store, [first])
    assert [run.state for run in small.runs()] == ["cancelled"]
    outcomes.write(small.store, [again])
    assert [run.state for run in small.runs()] == ["completed"]


# --- what people see ------------------------------------------------------------------------------
def test_the_views_show_next_paused_and_overdue_entries(small, monkeypatch):
    small.deployed()
    app = small.deployed(noon=GOOD, often={"task": "shop.count", "schedule": 60.0})
    monkeypatch.setattr("relevo.clock.now", small.clock)
    views = {each.entry.name: each for each in operations.views(app)}
    assert [views["noon"].next, views["often"].next] == [at("03-02 12:00"), at("03-01 12:01")]
    assert not views["noon"].known
    small.beat(app)
    operations.pause(app, "often", 600)
    operations.pause(app, "noon", None)
    views = {each.entry.name: each for each in operations.views(app)}
    assert (views["noon"].paused, views["noon"].next, views["noon"].known) == (True, None, True)
    assert (views["often"].paused_until, views["often"].next) == (
        small.clock.time + 600,
        at("03-01 12:11"),
    )
    assert operations.resume(app, "noon")
    small.clock.time = at("03-02 12:02")
    views = {each.entry.name: each for each in operations.views(app)}
    assert (views["noon"].overdue, views["noon"].next) == (True, at("03-02 12:00"))


def test_an_unknown_entry_is_an_error_with_the_likely_name(small):
    app = small.deployed(noon=GOOD)
    for act in (
        lambda: operations.run(app, "noom", "ann"),
        lambda: operations.pause(app, "noom", None),
        lambda: operations.resume(app, "noom"),
        lambda: operations.view(app, "noom"),
    ):
        with pytest.raises(
            OptionError, match="no entry 'noom' in beat_schedule; did you mean 'noon'"
        ):
            act()
    assert audit.page(small.store) == []
