"""One SQLite file and many processes: no "database is locked", no job lost or taken twice."""

from __future__ import annotations

import traceback
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from relevo.drivers.contract import Binding, Broadcast, NewJob
from relevo.drivers.database.driver import DatabaseDriver
from tests.support.programs import FRESH
from tests.support.waits import LONG

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = 8
JOBS, MESSAGES, NEW_FILES = 25, 4, 4
# Longer than anything here takes: a process that died must not leave the others waiting at a
# barrier.


@pytest.fixture(scope="module")
def in_every_process():
    """Call `work(number, barrier, *arguments)` in every process at the same moment; returns the
    results.
    """
    with FRESH.Manager() as manager, ProcessPoolExecutor(PROCESSES, mp_context=FRESH) as pool:
        barrier = manager.Barrier(PROCESSES)

        def call(work: Callable[..., Any], *arguments: Any) -> list[Any]:
            told = [
                pool.submit(_told, work, number, barrier, *arguments) for number in range(PROCESSES)
            ]
            return [one.result(LONG) for one in told]

        yield call


def _told(work, number, barrier, *arguments):
    try:
        return work(number, barrier, *arguments)
    except Exception:  # noqa: BLE001  the parent raises it
        barrier.abort()
        return traceback.format_exc()


# --- what each process does -----------------------------------------------------------------------
def first_use(number, barrier, urls):
    for url in urls:
        barrier.wait(LONG)
        DatabaseDriver(url).put([NewJob("default", "{}", f"{number}")])
    return "done"


def live(number, barrier, url):
    """Put jobs, run jobs, send and receive broadcasts. Returns the ids that ran and the broadcasts
    received.
    """
    driver, mailbox = DatabaseDriver(url), f"box-{number}"
    driver.subscribe(mailbox, [Binding("news")], 600)
    barrier.wait(LONG)
    ran: list[str] = []
    heard: list[str] = []
    for turn in range(JOBS):
        driver.put(
            [
                NewJob(
                    "default",
                    "{}",
                    f"{number}-{turn}",
                    unique_key=f"{number}-{turn}" if turn % 3 else None,
                )
            ]
        )
        if turn < MESSAGES:
            driver.broadcast([Broadcast("news", "", f"{number}-{turn}")])
        jobs = driver.reserve(["high", "default"], 2, 600, mailbox)
        leases = [job.lease for job in jobs]
        assert driver.extend(leases, 600) == []
        driver.release(leases[1:])
        assert driver.ack(leases[:1]) == len(leases[:1])
        ran += [job.id for job in jobs[:1]]
        heard += [message.payload for message in driver.receive(mailbox)]
    barrier.wait(LONG)
    heard += [message.payload for message in driver.receive(mailbox)]
    held = driver.reserve(["default"], 5, 600, mailbox)
    while held:
        ran += [job.id for job in held]
        held = driver.reserve(["default"], 5, 600, mailbox, done=[job.lease for job in held])
    return ran, heard


# --- the tests ------------------------------------------------------------------------------------
def test_processes_that_open_a_new_file_at_once_all_find_its_tables(tmp_path, in_every_process):
    # Given files that don't exist yet, in folders that don't either
    urls = [f"sqlite:///{tmp_path}/{number}/relevo.db" for number in range(NEW_FILES)]

    # When all processes put their first job at the same moment, I expect none to fail, and every
    # job to be there
    assert in_every_process(first_use, urls) == ["done"] * PROCESSES
    assert [DatabaseDriver(url).sizes("default").pending for url in urls] == [PROCESSES] * NEW_FILES


def test_processes_that_share_a_file_lose_nothing_and_do_nothing_twice(tmp_path, in_every_process):
    # When all processes put, take, extend, release, ack and broadcast at the same time
    url = f"sqlite:///{tmp_path}/relevo.db"
    told = in_every_process(live, url)
    assert [one for one in told if isinstance(one, str)] == []

    # I expect every job to have run once
    ran = sorted(id_ for jobs, _ in told for id_ in jobs)
    assert ran == sorted(f"{number}-{turn}" for number in range(PROCESSES) for turn in range(JOBS))
    assert DatabaseDriver(url).queues() == []

    # and everybody to have heard everything, each speaker in order
    for _, heard in told:
        assert len(heard) == PROCESSES * MESSAGES
        for number in range(PROCESSES):
            assert [one for one in heard if one.startswith(f"{number}-")] == [
                f"{number}-{t}" for t in range(MESSAGES)
            ]
