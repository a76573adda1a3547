"""Timeouts and lost children, which only the main process of a worker can report, on SQLite."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import TimeoutError  # noqa: A004

from relevo import drivers
from relevo.store import failed
from relevo.store.store import store_for
from tests.support.programs import Process, start
from tests.support.waits import LONG, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

ENDS = {
    "sleep": ("FAILURE", "TimeLimitExceeded"),
    "sleep.once": ("FAILURE", "TimeLimitExceeded"),
    "sleep.unhooked": ("FAILURE", "TimeLimitExceeded"),
    "sleep.first": ("SUCCESS", "str"),
    "die": ("FAILURE", "WorkerLostError"),
    "die.first": ("SUCCESS", "str"),
    "die.forever": ("FAILURE", "WorkerLostError"),
    "exit": ("FAILURE", "JobExitedError"),
    "hook.dies": ("FAILURE", "WorkerLostError"),
    "memory": ("FAILURE", "JobMemoryError"),
    "plain.dies": ("FAILURE", "WorkerLostError"),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    os.environ["RELEVO_TEST_DIR"] = str(tmp_path_factory.mktemp("killed"))
    from tests.support.apps import killed  # noqa: PLC0415 - it reads the folder when it is imported

    yield killed
    killed.app.close()
    del os.environ["RELEVO_TEST_DIR"]


@pytest.fixture(scope="module")
def worker(killed: ModuleType) -> Iterator[Process]:
    command = ["-m", "celery", "-A", "tests.support.apps.killed", "worker", "-c", "6", "-l", "INFO"]
    with (killed.folder / "log").open("wb") as log:
        process = start(*command, environ=os.environ, output=log)
        try:
            yield process
            process.terminate()
            process.wait(LONG)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def ended(killed: ModuleType, worker: Process) -> dict[str, Any]:
    """All jobs, dispatched together and waited for: name -> result."""
    results = {name: killed.app.tasks[name].dispatch() for name in ENDS}
    for name, result in results.items():
        try:
            result.get(timeout=LONG, propagate=False, interval=0.05)
        except TimeoutError:
            pytest.fail(
                f"{name} {result.id} has not ended\n"
                + (killed.folder / "log").read_text(errors="replace")
            )
    assert worker.poll() is None
    return results


@pytest.fixture
def noted(killed: ModuleType, ended: dict[str, Any]) -> Callable[[str], list[Any]]:
    """The facts in the journal that begin with this word, without it."""
    return lambda word: [rest for first, *rest in killed.facts() if first == word]


@pytest.mark.parametrize("name", ENDS)
def test_each_killed_job_ends_in_a_known_state(ended, name):
    assert (ended[name].state, type(ended[name].result).__name__) == ENDS[name]


@pytest.mark.parametrize(
    ("name", "attempts"),
    [
        ("sleep", 2),
        ("sleep.once", 1),
        ("sleep.unhooked", 1),
        ("sleep.first", 2),
        ("die", 2),
        ("die.first", 2),
        ("die.forever", 3),
        ("exit", 2),
        ("memory", 2),
        ("hook.dies", 1),
    ],
)
def test_a_killed_attempt_counts_and_the_next_one_knows(noted, name, attempts):
    assert noted(name) == [[attempt] for attempt in range(1, attempts + 1)]


def test_a_plain_task_is_lost_as_in_celery_once_and_for_all(noted):
    assert noted("plain.dies") == [[]]


def test_the_hook_runs_once_for_each_job_that_failed_for_good_in_a_child(noted):
    failed = {
        name: (attempt, exceptions, error) for name, attempt, exceptions, error in noted("failed")
    }
    assert failed == {
        "sleep": (2, 2, "TimeLimitExceeded"),
        "sleep.once": (1, 1, "TimeLimitExceeded"),
        "die": (2, 2, "WorkerLostError"),
        "die.forever": (3, 3, "WorkerLostError"),
        "exit": (2, 2, "JobExitedError"),
        "memory": (2, 2, "MemoryError"),
    }
    assert len(noted("failed")) == len(failed)
    assert noted("hook ran in the main process") == [[False]] * len(failed)


def test_a_hook_that_kills_its_process_is_not_run_again(noted):
    assert noted("hook.dies failed") == [[]]


def test_every_job_that_failed_for_good_is_in_the_failed_store_once_with_all_its_errors(
    killed, ended
):
    store = store_for(killed.settings.database_url)
    expected = {name: ends[1] for name, ends in ENDS.items() if ends[0] == "FAILURE"}
    eventually(lambda: failed.count(store) >= len(expected))
    jobs = {job.task: job for job in failed.page(store)}
    assert {name: job.exception.rpartition(".")[2] for name, job in jobs.items()} == expected
    assert {name: len(job.errors) for name, job in jobs.items()} == {
        name: job.attempts for name, job in jobs.items()
    }
    assert jobs["die.forever"].attempts == 3
    assert {job.uuid for job in jobs.values()} == {ended[name].id for name in expected}


def test_nothing_is_left_in_the_broker(killed, ended, worker):
    """Every delivery was acked: a warm stop gives nothing back."""
    worker.terminate()
    worker.wait(LONG)
    driver = drivers.driver_for(killed.app.conf.broker_url)
    sizes = driver.sizes(killed.settings.connection.queue)
    assert (sizes.pending, sizes.delayed, sizes.reserved) == (0, 0, 0)
