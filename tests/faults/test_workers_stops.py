"""A warm stop ends with its last running job and releases the rest; a cold stop releases
everything.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.workers import Site, Worker

# Short ones: enough for three stops in their midst, and each costs 4 ms of CPU.
JOBS = 700


def test_a_warm_stop_ends_with_its_running_jobs_and_releases_the_rest(
    site: Site,
):
    # not what this is about: on a machine that stands still for seconds, a short one would end
    site.lease = 30.0
    gate = site.folder / "gate"
    site.dispatch("hold", range(2), str(gate))
    site.dispatch("work", range(2, 20))
    with site.worker("-c", "2") as worker:
        site.until(lambda: site.running() == {0, 1})
        worker.signal(signal.SIGTERM)
        worker.until_noted("stopping")
        site.until(lambda: site.sizes() == (18, 0, 2))
        assert worker.alive()
        gate.touch()
        assert worker.ended() == 0
    assert site.sizes() == (18, 0, 0)
    assert site.started == {0: 1, 1: 1}
    assert site.ended == {0, 1}


def test_warm_stops_in_the_midst_of_short_jobs_lose_none_and_run_none_twice(site: Site):
    # not what this is about: on a machine that stands still for seconds, a short one would end
    site.lease = 30.0
    site.dispatch("work", range(JOBS), 0.005)
    for round_ in range(1, 4):
        with site.worker("-c", "2") as worker:
            site.until(lambda round_=round_: len(site.ended) > round_ * 100)
            assert worker.stop() == 0
            assert site.sizes() == (JOBS - len(site.ended), 0, 0)
            assert not site.running()
    with site.worker("-c", "2"):
        site.until(lambda: len(site.ended) == JOBS)
        site.until(site.empty)
    assert set(site.started.values()) == {1}


def test_jobs_in_the_pipe_behind_long_ones_are_released_for_other_workers(site: Site):
    """Short jobs fill the pipe ahead. The long ones that follow must not keep those behind them."""
    site.lease = 30.0  # as above: two workers live
    gate = site.folder / "gate"
    site.dispatch("work", range(100, 350))
    site.dispatch("hold", range(8), str(gate))
    with site.worker("-c", "2") as first:
        site.until(lambda: len(site.running() & set(range(8))) == 2)
        with site.worker("-c", "6"):
            site.until(lambda: site.running() == set(range(8)))
            assert first.alive()
            gate.touch()
            site.until(lambda: site.ended >= set(range(8)))
            site.until(site.empty)
    assert set(site.started.values()) == {1}


def test_a_warm_stop_right_after_short_jobs_releases_the_jobs_in_the_pipe(site: Site):
    gate = site.folder / "gate"
    site.dispatch("work", range(100, 350))
    site.dispatch("hold", range(8), str(gate))
    with site.worker("-c", "2") as worker:
        site.until(lambda: len(site.running() & set(range(8))) == 2)
        worker.signal(signal.SIGTERM)
        worker.until_noted("stopping")
        site.until(lambda: site.sizes() == (6, 0, 2))
        gate.touch()
        assert worker.ended() == 0
    assert site.sizes() == (6, 0, 0)
    assert set(site.started.values()) == {1}


@pytest.mark.parametrize(
    "signals", [[signal.SIGQUIT], [signal.SIGINT, signal.SIGINT]], ids=["SIGQUIT", "SIGINT twice"]
)
def test_a_cold_stop_does_not_wait_for_running_jobs_and_another_worker_runs_them_at_once(
    site: Site, signals: list[signal.Signals]
):
    """At once, not after the lease: with a lease of an hour the test would wait for ever."""
    site.lease = 3600
    gate = site.folder / "gate"
    site.dispatch("work", range(10, 40))
    site.dispatch("hold", range(2), str(gate))
    with site.worker("-c", "3") as worker:
        site.until(lambda: site.running() == {0, 1})
        site.until(lambda: site.sizes() == (0, 0, 2))
        send(worker, signals)
        worker.ended()
    assert site.sizes() == (2, 0, 0)
    gate.touch()
    with site.worker("-c", "2"):
        site.until(lambda: len(site.ended) == 32)
        site.until(site.empty)
    assert site.twice() == {0, 1}


def send(worker: Worker, signals: list[signal.Signals]) -> None:
    """One after the other, the next when the one before was understood."""
    first, *others = signals
    worker.signal(first)
    for signum in others:
        worker.until_noted("stopping")
        worker.signal(signum)


def test_a_stop_of_the_whole_process_group_lets_running_jobs_finish(site: Site):
    """As supervisor does it with `stopasgroup`, and systemd: every process gets the signal."""
    gate = site.folder / "gate"
    site.dispatch("hold", range(2), str(gate))
    with site.worker("-c", "3") as worker:
        site.until(lambda: site.running() == {0, 1})
        os.killpg(worker.pid, signal.SIGTERM)
        worker.until_noted("stopping")
        assert site.running() == {0, 1}
        gate.touch()
        assert worker.ended() == 0
    assert site.ended == {0, 1}
    assert not site.twice()
    assert site.empty()


def test_sigterm_to_a_pool_process_alone_kills_it(site: Site):
    site.dispatch("hold", [0], str(site.folder / "gate"))
    with site.worker("-c", "1") as worker:
        site.until(lambda: site.running() == {0})
        [child] = worker.children()
        child.send_signal(signal.SIGTERM)
        [job] = site.until(site.failed)
        assert job.exception.endswith("WorkerLostError")
        assert worker.stop() == 0


def test_a_stop_at_any_moment_of_the_start_ends_the_worker_and_loses_nothing(site: Site):
    """SIGTERM comes at twelve moments between the first note of the app's module and the first
    jobs.
    """
    site.dispatch("work", range(300), 0.001)
    for step in range(12):
        with site.starting("-c", "2") as worker:
            worker.until_noted("starting")
            time.sleep(step * 0.02)  # a place in the start, not a wait for anything
            worker.signal(signal.SIGTERM)
            worker.ended()
        assert site.sizes()[2] == 0, site.logs()
    with site.worker("-c", "2"):
        site.until(lambda: len(site.ended) == 300)
        site.until(site.empty)
    assert set(site.started.values()) == {1}
