"""`celery -A tasks check`: each possible problem is found, with a remedy."""

from __future__ import annotations

import json
import socket
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from relevo import config
from relevo.app import create_app
from relevo.cli import health_checks
from relevo.cli.check import check
from relevo.drivers.contract import NewJob


@pytest.fixture
def nobody_works(monkeypatch):
    """No worker answers, and the check waits for none."""
    monkeypatch.setattr("celery.app.control.Inspect.active_queues", lambda _self: None)


@pytest.fixture
def run(tmp_path, monkeypatch, nobody_works):
    """Check an app with these settings; returns the exit code, and the findings by their part."""
    monkeypatch.chdir(tmp_path)

    def run(schedule=None, when_complete=None, **settings):
        given = {"RELEVO_VAR_DIR": str(tmp_path / "var"), **settings}
        app = create_app("shop", config.load(given, None), beat_schedule=schedule or {})
        if when_complete is not None:
            app.on_after_finalize.connect(when_complete)
        ended = CliRunner().invoke(check, ["--json"], obj=SimpleNamespace(app=app))
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        findings = {}
        for finding in json.loads(ended.stdout):
            findings.setdefault(finding["what"], []).append(SimpleNamespace(**finding))
        return ended.exit_code, findings

    return run


@pytest.fixture
def nobody_listens():
    """A port without a server."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_an_overdue_entry_is_a_warning_and_an_invalid_one_is_wrong(run):
    cleaning = {"task": "celery.backend_cleanup", "schedule": 60}
    code, findings = run({"cleaning": cleaning})
    assert (code, findings["schedule"][0].state) == (0, "warning")
    assert findings["schedule"][0].todo == "start one: celery -A tasks beat"
    code, findings = run({"cleaning": {**cleaning, "schedule": "daily"}})
    assert (code, findings["schedule"][0].state) == (1, "wrong")
    assert "entry 'cleaning' of beat_schedule" in findings["schedule"][0].found


def test_entries_that_are_added_when_the_app_is_finalized_are_checked(run):
    def add(sender, **_signal):
        sender.add_periodic_task(60.0, sender.tasks["celery.backend_cleanup"].s(), name="cleaning")

    assert "no beat has come for" in run(when_complete=add)[1]["schedule"][0].found


def test_without_any_setting_only_the_worker_is_missing(run, tmp_path):
    code, findings = run()
    assert code == 0
    assert {what: [each.state for each in found] for what, found in findings.items()} == {
        "settings": ["ok"],
        "broker": ["ok"],
        "database": ["ok"],
        "results": ["ok"],
        "disks": ["ok"],
        "mail": ["ok"],
        "workers": ["warning"],
    }
    assert findings["workers"][0].todo == "start one: celery -A tasks worker"
    assert list((tmp_path / "var/files").iterdir()) == [], "the file that was written is gone"


def test_for_people_each_finding_is_a_line_with_what_to_do(
    app, nobody_works, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(check, [], obj=SimpleNamespace(app=app))
    lines = ended.stdout.splitlines()
    assert "ok       broker      sqlite answers" in lines
    assert lines[-2:] == [
        f"{'':21}-> start one: celery -A tasks worker",
        "0 wrong, 1 warning, 6 ok.",
    ]


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (
            {"REDIS_URL": "redis://127.0.0.1:PORT/0", "MAIL_URL": "smtp://127.0.0.1:PORT"},
            {"broker", "results", "mail"},
        ),
        (
            {"DATABASE_URL": "postgresql://u:secret@127.0.0.1:PORT/x", "QUEUE_RESULTS": "none"},
            {"broker", "database"},
        ),
        ({"FILES_DISK_ROOT": "/proc/nowhere"}, {"disks"}),
    ],
    ids=["Redis and mail", "PostgreSQL", "the disk"],
)
def test_an_unreachable_server_is_wrong_and_the_rest_is_checked(
    run, nobody_listens, settings, wrong
):
    code, findings = run(
        **{name: value.replace("PORT", str(nobody_listens)) for name, value in settings.items()}
    )
    assert code == 1
    assert {what for what, found in findings.items() if found[0].state == "wrong"} == wrong
    assert all(findings[what][0].todo for what in wrong)
    assert "secret" not in str(findings)
    assert "mail" in findings, "it went on"


def test_old_tables_are_an_error(run, tmp_path):
    run()
    store = health_checks.store_for(f"sqlite:///{tmp_path}/var/relevo.sqlite3")
    store.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE relevo_version SET version_num = '0001'"
        )
    )
    code, findings = run()
    assert code == 1
    assert findings["database"][0].state == "wrong"
    assert findings["database"][0].todo == "celery -A tasks schema upgrade"


def test_the_applications_migrations_are_checked_if_it_has_any(run, tmp_path):
    scripts = tmp_path / "migrations/versions"
    scripts.mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    (scripts / "one.py").write_text("revision = 'one'\ndown_revision = None\n")
    code, findings = run()
    assert code == 1
    (found,) = findings["migrations"]
    assert (found.state, found.todo) == ("wrong", "alembic upgrade head")
    assert "at none, its code's at one" in found.found


def test_a_pause_and_a_queue_without_workers_are_warnings(run, tmp_path, monkeypatch):
    run()
    driver = health_checks.driver_of(
        SimpleNamespace(
            obj=SimpleNamespace(
                app=create_app("shop", config.load({"RELEVO_VAR_DIR": str(tmp_path / "var")}, None))
            )
        )
    )
    driver.pause("default")
    driver.put([NewJob("hihg", "{}", "a")])
    answer = {"one@here": [{"name": "default"}]}
    monkeypatch.setattr("celery.app.control.Inspect.active_queues", lambda _self: answer)
    code, findings = run()
    assert code == 0
    assert findings["queues"][0].todo == "celery -A tasks queues resume default"
    assert [found.state for found in findings["workers"]] == ["ok", "warning"]
    assert "1 job waiting on 'hihg'" in findings["workers"][1].found


def test_a_redis_that_may_lose_jobs_is_reported(run, redis_url):
    code, findings = run(REDIS_URL=redis_url)
    assert code == 0
    assert findings["broker"][0].state == "ok"
    info = {"redis_version": "6.0.1", "maxmemory_policy": "allkeys-lru", "aof_enabled": 0}
    found = list(health_checks._redis(SimpleNamespace(client=SimpleNamespace(info=lambda: info))))
    assert [each.state for each in found] == ["wrong", "wrong", "warning"]
    assert all(each.todo for each in found)


def test_a_dashboard_open_to_the_world_is_a_warning(run):
    _, findings = run(FLOWER_ADDRESS="0.0.0.0")
    assert findings["dashboard"][0].state == "warning"
