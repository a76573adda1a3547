"""Workers and children killed with -9: every job runs, and only started ones start again."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from relevo.transport.channel import MOST_RESCUES

if TYPE_CHECKING:
    from tests.support.workers import Site


def test_a_killed_workers_jobs_run_on_another_and_only_started_ones_start_again(
    site: Site,
):
    gate = site.folder / "gate"
    site.dispatch("work", range(100, 140))
    site.dispatch("hold", range(2), str(gate))
    site.dispatch("work", range(200, 240))
    with site.worker("-c", "2") as first:
        site.until(lambda: site.running() == {0, 1})
        first.kill()
        had_started = set(site.started)
        gate.touch()
        with site.worker("-c", "2"):
            site.until(lambda: len(site.ended) == 82)
            site.until(site.empty)
    assert {0, 1} <= site.twice() <= had_started


def test_children_whose_main_process_was_killed_end_too(site: Site):
    with site.worker("-c", "3") as worker:
        assert len(worker.children()) == 3
        os.kill(worker.pid, signal.SIGKILL)
        worker.ended()


def test_a_worker_whose_idle_children_are_killed_still_runs_jobs(site: Site):
    with site.worker("-c", "2") as worker:
        for number in range(6):
            site.dispatch("work", [number])
            site.until(lambda number=number: number in site.ended)
            for child in worker.children()[number % 2 :: 2]:
                child.kill()
        site.until(site.empty)
        assert worker.alive()
    assert site.twice() == set()


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_child_that_is_killed_while_it_hands_over_a_large_error_spoils_no_other_jobs(site: Site):
    gate = site.folder / "gate"
    site.dispatch("large", [0], str(gate), 8_000_000)
    with site.worker("-c", "2") as worker:
        # Given a child whose main process, which stands still, has not read all of its error
        site.until(lambda: site.running() == {0})
        (pid,) = (pid for fact, _, pid, _ in site.lines() if fact == "start")
        worker.signal(signal.SIGSTOP)
        gate.touch()
        site.until(lambda: "sock" in Path(f"/proc/{pid}/wchan").read_text())

        # When it is killed, I expect it to be missed, and the others to run on
        os.kill(pid, signal.SIGKILL)
        worker.signal(signal.SIGCONT)
        site.dispatch("work", range(1, 20))
        site.until(lambda: site.ended >= set(range(1, 20)) and site.empty())
        assert worker.alive()
    assert [job.exception for job in site.failed()] == ["billiard.exceptions.WorkerLostError"]


def test_a_job_whose_child_is_killed_is_lost_for_plain_celery_and_tried_again_with_tries(
    site: Site,
):
    site.dispatch("kill.child", [0])
    site.dispatch("kill.child.tries", [1])
    site.dispatch("work", range(2, 30))
    with site.worker("-c", "2"):
        site.until(
            lambda: site.facts("failed") and site.ended >= set(range(2, 30)) and site.started[0]
        )
        site.until(site.empty)
    assert (site.started[0], site.started[1], site.facts("failed")) == (1, 2, [1])
    assert site.twice() == {1}


def test_a_job_that_kills_its_worker_each_time_has_failed_and_the_others_run(site: Site):
    site.dispatch("kill.worker", [0])
    for _ in range(MOST_RESCUES):
        with site.worker("-c", "1") as worker:
            worker.ended()
    site.dispatch("work", [1])
    with site.worker("-c", "1") as worker:
        site.until(lambda: 1 in site.ended and site.failed())
        assert worker.alive()
    assert site.started[0] == MOST_RESCUES
    assert [(job.uuid, job.exception) for job in site.failed()] == [
        (site.ids[0], "relevo.errors.UndeliverableError")
    ]
