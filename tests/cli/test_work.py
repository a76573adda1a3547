"""`celery -A tasks work`: its errors, and the options that reach the worker. With real workers:
tests/faults.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from celery import Celery
from click.testing import CliRunner

from relevo.cli import work as command
from relevo.cli.work import work
from relevo.transport import registration
from relevo.transport.context import current


@pytest.fixture
def started(monkeypatch):
    """The options that the worker would be started with."""
    seen = []
    monkeypatch.setattr(
        command.celery_worker,
        "invoke",
        lambda context: seen.append((context.params, current().work_limits)),
    )
    return seen


@pytest.fixture
def run(app):
    def run(*words, app=app):
        return CliRunner().invoke(work, list(words), obj=SimpleNamespace(app=app, quiet=False))

    return run


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-Q", "high"],
        ["--once", "--max-jobs", "2"],
        ["--max-jobs", "0"],
        ["--max-time", "0"],
        ["--max-time", "soon"],
        ["--once", "--max-tiem", "5"],
    ],
)
def test_invalid_options_start_nothing(run, started, words):
    assert run(*words).exit_code == 2
    assert started == []


def test_the_options_of_a_worker_are_passed_on(run, started):
    assert (
        run(
            "--once", "-Q", "high,default", "--max-time", "1m", "-P", "solo", "-l", "INFO"
        ).exit_code
        == 0
    )
    ((params, limits),) = started
    assert params["queues"] == ["high", "default"]
    assert params["concurrency"] == 1, "one job needs one process"
    assert params["hostname"].startswith("work-")
    assert (limits.most, limits.when_empty) == (1, True)


def test_the_limits_end_with_their_worker_and_stop_nothing_later_in_the_process(
    run, started, monkeypatch
):
    """The timer once stopped another worker of the same process, a minute later, in a test."""
    timers, before = [], threading.enumerate()

    def works(_context):
        timers.extend(thread for thread in threading.enumerate() if thread not in before)

    monkeypatch.setattr(command.celery_worker, "invoke", works)
    assert run("--max-time", "1m").exit_code == 0
    assert [timer.finished.is_set() for timer in timers] == [True]


@pytest.mark.parametrize(
    "name", [["-n", "mine@%h"], ["-nmine@%h"], ["--hostname=mine@%h"], ["--hostname", "mine@%h"]]
)
def test_a_given_name_of_the_worker_is_kept(run, started, name):
    run("--stop-when-empty", "-c3", *name)
    ((params, limits),) = started
    assert params["hostname"].startswith("mine@")
    assert params["concurrency"] == 3
    assert limits.most is None
    assert limits.are_set
    assert not current().work_limits.are_set, "the limits end with their worker"


def test_an_unreachable_broker_ends_it_at_once(run, started, tmp_path):
    registration.register_transport()
    app = Celery(
        "shop",
        broker="redis://127.0.0.1:1/0",
        broker_transport_options={"socket_connect_timeout": 1},
    )
    result = run("--stop-when-empty", app=app)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert started == []
