"""create_app: the presets of our apps, and the one-line error of a bad one."""

import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import celery
import kombu
import pytest
from kombu.exceptions import ContentDisallowed
from kombu.serialization import dumps, loads

from relevo import config
from relevo.app import App, create_app
from relevo.errors import SettingsError
from tests.support.programs import APPLICATION, FRESH, ROOT, run
from tests.support.waits import LONG

CELERY = Path(sys.executable).with_name("celery")


def settings(**environ: str) -> config.Settings:
    return config.load(environ, env_file=None)


def app_with(conf: dict | None = None, **environ: str) -> App:
    return create_app(f"shop-{uuid.uuid4().hex}", settings(**environ), **(conf or {}))


# --- the preset -----------------------------------------------------------------------------------


def test_the_broker_is_the_one_of_the_connection_with_its_lease():
    conf = app_with(QUEUE_RETRY_AFTER="7").conf
    assert conf.broker_url == settings().connection.url
    assert conf.broker_transport_options == {"lease": 7}
    assert conf.task_default_queue == "default"
    assert app_with(QUEUE_CONNECTION="high-priority").conf.task_default_queue == "high"


def test_a_job_is_done_when_it_has_run_and_a_worker_holds_what_it_runs():
    conf = app_with().conf
    assert conf.task_acks_late is True
    assert conf.worker_prefetch_multiplier == 1


def test_a_broker_that_is_away_is_waited_for():
    conf = app_with().conf
    assert conf.broker_channel_error_retry is True
    assert conf.broker_connection_retry_on_startup is True
    assert conf.broker_connection_max_retries is None


def test_times_are_utc():
    conf = app_with().conf
    assert conf.enable_utc is True
    assert str(conf.timezone) == "UTC"


def test_the_preset_has_no_name_that_celery_does_not_know():
    from celery.app.defaults import SETTING_KEYS  # noqa: PLC0415

    from relevo.app import preset  # noqa: PLC0415

    # The Redis result backend reads this one, though Celery's table of settings leaves it out.
    assert preset(settings()).keys() - SETTING_KEYS == {"redis_backend_health_check_interval"}


def test_every_later_layer_wins():
    class Project:
        task_track_started = False
        result_extended = False

    app = app_with({"result_extended": True})
    app.config_from_object(Project)
    assert app.conf.task_track_started is False  # the project's, over the preset
    assert app.conf.result_extended is True  # create_app's, over the project's
    assert app.conf.task_acks_late is True  # the preset, over Celery's default


def test_the_preset_stays_when_the_project_is_configured_late():
    app = app_with()
    assert app.conf.task_acks_late is True
    app.config_from_object({"task_track_started": False}, force=True)
    assert app.conf.task_acks_late is True
    assert app.conf.task_track_started is False


def test_tries_and_waits_of_the_settings_reach_the_tasks():
    app = app_with(QUEUE_MAX_TRIES="4", QUEUE_BACKOFF="1,2")

    @app.task(name="shop.patient")
    def patient() -> None: ...

    options = app.tasks["shop.patient"].options
    assert (options.tries, options.backoff) == (4, (1, 2))


def test_by_default_a_task_without_our_options_is_plain_celery():
    app = app_with()

    @app.task(name="shop.plain")
    def plain() -> None: ...

    assert app.tasks["shop.plain"].options.has_retry_policy is False
    assert app.tasks["shop.plain"].max_retries == celery.Task.max_retries


def test_sync_runs_a_job_where_it_is_dispatched_and_raises_its_error_there():
    app = app_with(QUEUE_CONNECTION="sync")
    ran = []

    @app.task(name="shop.note")
    def note(text: str) -> None:
        ran.append(text)
        if text == "bad":
            raise ValueError(text)

    note.delay("good")
    assert ran == ["good"]
    with pytest.raises(ValueError, match="bad"):
        note.delay("bad")


def test_a_spawned_process_gets_the_same_app():
    copy = pickle.loads(
        pickle.dumps(app_with({"task_track_started": False}, QUEUE_RETRY_AFTER="7"))
    )
    assert isinstance(copy, App)
    assert copy.settings.queue_retry_after == 7
    assert copy.conf.task_track_started is False
    assert copy.conf.task_acks_late is True


# --- JSON only ------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["accept_content", "result_accept_content"])
def test_only_json_is_accepted(setting):
    assert list(app_with().conf[setting]) == ["json"]


@pytest.mark.parametrize("setting", ["task_serializer", "result_serializer", "event_serializer"])
def test_only_json_is_sent(setting):
    assert app_with().conf[setting] == "json"


class Bomb:
    """An attacker's message."""

    went_off = False

    def __reduce__(self):
        return setattr, (Bomb, "went_off", True)


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_the_consumer_of_jobs_refuses_everything_else_unread(serializer):
    app = app_with()
    with kombu.Connection("memory://") as connection:
        consumer = app.amqp.TaskConsumer(connection.default_channel)
        assert consumer.accept == {"application/json"}
        if serializer == "pickle":
            content_type, encoding, body = dumps(Bomb(), serializer="pickle")
            with pytest.raises(ContentDisallowed):
                loads(body, content_type, encoding, accept=consumer.accept)
    assert Bomb.went_off is False


def test_remote_control_and_events_refuse_pickle():
    app = app_with()
    assert app.control.mailbox.accept == ["json"]
    with kombu.Connection("memory://") as connection:
        assert app.events.Receiver(connection.default_channel, handlers={}).accept == {"json"}


def test_a_job_cannot_be_dispatched_in_pickle_by_default():
    app = app_with({"broker_url": "memory://"})

    @app.task(name="shop.anything")
    def anything(value: object) -> None: ...

    with pytest.raises(kombu.exceptions.EncodeError):
        anything.delay(object())


# --- strict order ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted", ["critical,high,default", "default,critical,high", "low,long,high,critical", "high"]
)
def test_the_queues_reach_the_driver_in_the_order_of_the_command_line(wanted):
    app = app_with(
        {
            "task_queues": [
                kombu.Queue(name) for name in ("critical", "high", "default", "low", "long")
            ]
        }
    )
    app.amqp.queues.select(wanted.split(","))
    with kombu.Connection("memory://") as connection:
        consumer = app.amqp.TaskConsumer(connection.default_channel)
        consumer.consume()
        assert connection.default_channel._active_queues == wanted.split(",")


def test_without_a_choice_the_order_is_that_of_the_declaration():
    app = app_with()
    app.config_from_object("celeryconfig")
    import celeryconfig  # noqa: PLC0415

    assert [queue.name for queue in app.amqp.queues.consume_from.values()] == list(
        celeryconfig.QUEUES
    )


# --- results on one SQLite file -------------------------------------------------------------------


def store_results(path: str, who: int, count: int) -> None:
    app = app_with(DATABASE_URL=f"sqlite:///{path}")
    for number in range(count):
        app.backend.store_result(f"{who}-{number}", None, "STARTED")
        app.backend.store_result(f"{who}-{number}", {"n": number}, "SUCCESS")


def test_processes_share_one_sqlite_file_for_their_results(tmp_path):
    path = str(tmp_path / "new" / "results.db")
    processes = [FRESH.Process(target=store_results, args=(path, who, 15)) for who in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LONG)
    assert [process.exitcode for process in processes] == [0] * 4
    app = app_with(DATABASE_URL=f"sqlite:///{path}")
    found = {
        f"{who}-{n}": app.AsyncResult(f"{who}-{n}").result for who in range(4) for n in range(15)
    }
    assert found == {f"{who}-{n}": {"n": n} for who in range(4) for n in range(15)}


@pytest.mark.parametrize("database", ["postgresql_url", "mariadb_url"])
def test_results_are_kept_on_a_database_server(database, request):
    app = app_with(DATABASE_URL=request.getfixturevalue(database))
    job = uuid.uuid4().hex
    app.backend.store_result(job, {"sizes": [150, 500]}, "SUCCESS")
    assert app.AsyncResult(job).get(timeout=LONG) == {"sizes": [150, 500]}


def test_the_engine_of_the_results_is_in_wal_mode_and_waits(tmp_path):
    app = app_with(DATABASE_URL=f"sqlite:///{tmp_path}/new/results.db")
    session = app.backend.ResultSession()
    assert session.connection().exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert session.connection().exec_driver_sql("PRAGMA busy_timeout").scalar() >= 10_000


def test_all_results_of_a_process_go_through_one_engine(tmp_path):
    app = app_with(DATABASE_URL=f"sqlite:///{tmp_path}/results.db")
    engines = set()
    for job in "ab":
        app.backend.store_result(job, {}, "SUCCESS")
        engines.add(app.backend.ResultSession().get_bind())
    assert len(engines) == 1


# --- how a wrong setting ends ---------------------------------------------------------------------


def test_a_setting_celery_does_not_have_is_refused_with_the_likely_name():
    with pytest.raises(
        SettingsError, match="got 'task_ack_late'; did you mean 'task_acks_late'\\?"
    ):
        app_with({"task_ack_late": True})


def clean(**environ: str) -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("QUEUE_", "REDIS_"))
    } | environ


@pytest.mark.parametrize(
    ("arguments", "environ", "line"),
    [
        (
            ["worker"],
            {"QUEUE_RETRY_AFTER": "soon"},
            "Error: expected QUEUE_RETRY_AFTER to be a positive number of seconds, got 'soon'",
        ),
        (
            ["beat"],
            {"QUEUE_CONECTION": "redis"},
            (
                "Error: expected every setting in the environment to be a known one, "
                "got 'QUEUE_CONECTION'; "
                "did you mean 'QUEUE_CONNECTION'?"
            ),
        ),
        (
            ["worker", "-Q", "high,defualt"],
            {"QUEUE_CONNECTION": "sync"},
            "Error: no queue named 'defualt'; did you mean 'default'?",
        ),
    ],
)
def test_a_command_ends_with_one_line_and_exit_code_2(arguments, environ, line):
    ended = run(
        "-m", "celery", "-A", "tasks", *arguments, environ=clean(**environ), modules=APPLICATION
    )
    assert (ended.returncode, ended.stdout.strip(), ended.stderr.strip()) == (2, "", line)


def test_outside_of_a_command_it_is_an_exception():
    with pytest.raises(SettingsError):
        settings(QUEUE_CONNECTION="nonsense")


def test_the_application_loads_from_a_clone_and_knows_its_tasks():
    command = [CELERY, "-A", "tasks", "report"]
    listed = subprocess.run(
        command,
        cwd=ROOT,
        env=clean(QUEUE_CONNECTION="sync"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    assert "tasks.cleanup" in listed.stdout
    assert "Traceback" not in listed.stderr


def test_flower_is_given_its_settings(monkeypatch):
    import click  # noqa: PLC0415

    for name in ("FLOWER_ADDRESS", "FLOWER_PORT", "FLOWER_BASIC_AUTH"):
        monkeypatch.delenv(name, raising=False)
    with click.Context(click.Command("celery")) as context:
        context.invoked_subcommand = "worker"
        app_with(FLOWER_PORT="5999")
        assert "FLOWER_PORT" not in os.environ
        context.invoked_subcommand = "flower"
        app_with(FLOWER_PORT="5999", FLOWER_BASIC_AUTH="me:secret")
    given = {
        name: os.environ.pop(name)
        for name in ("FLOWER_ADDRESS", "FLOWER_PORT", "FLOWER_BASIC_AUTH")
    }
    assert given == {
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": "5999",
        "FLOWER_BASIC_AUTH": "me:secret",
    }


# --- the one task of maintenance ------------------------------------------------------------------


def test_old_half_written_files_are_deleted_and_nothing_else(tmp_path, monkeypatch):
    import tasks  # noqa: PLC0415
    from tasks.cleanup import temporary_files  # noqa: PLC0415

    monkeypatch.setattr(tasks.app, "settings", settings(FILES_DISK_ROOT=str(tmp_path)))
    for name, age in [
        ("a/.x.part", 90_000),
        (".y.part", 60),
        ("a/photo.jpg", 90_000),
        ("a/mine.part", 90_000),
    ]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    (tmp_path / "folder.part").mkdir()
    os.utime(tmp_path / "folder.part", (0, 0))
    assert temporary_files() == 1
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        ".y.part",
        "a",
        "a/mine.part",
        "a/photo.jpg",
        "folder.part",
    ]
    assert temporary_files() == 0
