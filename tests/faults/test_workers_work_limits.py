"""`celery work`: real workers that end by themselves, as cron starts them."""

from __future__ import annotations

import pytest

from relevo.drivers.contract import NewJob
from tests.support.workers import payload_of

BROKERS = ["sqlite", "redis"]


@pytest.mark.parametrize("url", BROKERS, indirect=True)
def test_work_runs_the_given_number_of_jobs_and_leaves_the_rest(site):
    site.dispatch("work", range(8))
    with site.starting("--once", command="work") as worker:
        assert worker.ended() == 0
    assert site.ended == {0}

    with site.starting("--max-jobs", "4", "-c", "2", command="work") as worker:
        assert worker.ended() == 0
    assert len(site.ended) == 5
    assert site.sizes() == (3, 0, 0)
    assert site.twice() == set()


@pytest.mark.parametrize("url", BROKERS, indirect=True)
def test_work_stops_when_only_delayed_jobs_are_left(site):
    # not what this is about: on a machine that stands still for seconds, a short one would end
    site.lease = 30.0
    # Given jobs on our queue, one for later, and one on a queue that is paused
    site.dispatch("work", range(20), 0.01)
    later = payload_of("work", "later", [99], site.queue)
    site.driver.put([NewJob(site.queue, later, "later", available_at=site.driver.now() + 3600)])
    paused = f"{site.queue}-paused"
    site.driver.put([NewJob(paused, payload_of("work", "paused", [98], paused), "paused")])
    site.driver.pause(paused)

    # When two are started at the same time
    options = ("--stop-when-empty", "-Q", f"{site.queue},{paused}", "-c", "2")
    with (
        site.starting(*options, command="work") as one,
        site.starting(*options, command="work") as two,
    ):
        assert [one.ended(), two.ended()] == [0, 0]

    # I expect every job once, and the two that could not run where they were
    assert site.ended == set(range(20))
    assert site.twice() == set()
    assert site.sizes() == (0, 1, 0)
    assert site.driver.sizes(paused).pending == 1


def test_work_ends_at_once_on_an_empty_queue(site):
    for option in ("--once", "--stop-when-empty"):
        with site.starting(option, command="work") as worker:
            assert worker.ended() == 0
    assert site.facts("ready")
    assert site.started == {}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_work_ends_after_its_time_with_its_running_jobs_and_leaves_the_rest(site):
    # However slow this machine is, and however few of them had begun by then
    site.dispatch("work", range(100), 0.1)
    with site.starting("--max-time", "1", "-c", "1", command="work") as worker:
        assert worker.ended() == 0
    assert set(site.started) == site.ended
    assert site.sizes() == (100 - len(site.ended), 0, 0)
    assert site.twice() == set()
