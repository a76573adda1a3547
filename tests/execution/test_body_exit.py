"""What a body raises beside errors: an error in a worker, itself where the job runs in place."""

from __future__ import annotations

import asyncio

import pytest
from celery.app.trace import build_tracer
from celery.exceptions import WorkerShutdown, WorkerTerminate

from relevo.errors import JobExitedError, JobMemoryError


class OddError(SystemExit):
    """An exit that can't be shown."""

    def __repr__(self) -> str:
        raise KeyboardInterrupt


def trace(app, task, **request):
    """Run a job as a pool process does; returns its error or its result."""
    traced = build_tracer(task.name, task, app=app)
    headers = {"id": "1", "delivery_info": {}, "ignore_result": True, "retries": 0, **request}
    result = traced("1", (), {}, headers)
    return result.retval if result.info is None else result.info.retval


def raising(app, error, **options):
    @app.task(**options)
    def body():
        raise error

    return body


EXITS = [
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    BaseException("x"),
    OddError(),
]


@pytest.mark.parametrize("options", [{}, {"tries": 1}])
@pytest.mark.parametrize("error", EXITS, ids=lambda each: type(each).__name__)
def test_what_ends_a_program_is_an_error_of_the_job(app, error, options):
    ended = trace(app, raising(app, error, **options))
    assert type(ended) is JobExitedError
    assert type(error).__name__ in str(ended)
    assert ended.__cause__ is error


@pytest.mark.parametrize("error", [WorkerShutdown(0), WorkerTerminate(0), GeneratorExit()])
def test_what_ends_the_worker_stays_what_it_is(app, error):
    with pytest.raises(type(error)):
        trace(app, raising(app, error))


def test_a_timeout_of_green_threads_stays_what_it_is(app):
    gevent = pytest.importorskip("gevent")
    with pytest.raises(gevent.Timeout):
        trace(app, raising(app, gevent.Timeout(1)))


def test_in_the_callers_process_an_exit_is_the_callers(app):
    task = raising(app, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        task()
    with pytest.raises(KeyboardInterrupt):
        task.apply()


def test_a_plain_tasks_memory_error_is_one_that_the_main_process_can_bear(app):
    assert type(trace(app, raising(app, MemoryError("12 GB")))) is JobMemoryError


@pytest.mark.parametrize(("retries", "kind"), [(0, "Retry"), (3, "JobMemoryError")])
def test_celerys_autoretry_sees_a_memory_error_while_it_has_retries(app, retries, kind):
    task = raising(app, MemoryError(), autoretry_for=(MemoryError,), default_retry_delay=0)
    assert type(trace(app, task, retries=retries)).__name__ == kind


def test_a_failed_hook_that_exits_is_logged(app, caplog):
    task = raising(app, ValueError("the job's"), tries=1)
    task.failed(lambda _job, _error: exit_now())
    assert type(trace(app, task)) is ValueError
    assert "The failed hook of" in caplog.text


def exit_now():
    raise SystemExit(1)
