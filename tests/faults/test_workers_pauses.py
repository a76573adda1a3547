"""Pauses outlive restarts of the workers."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_a_paused_queue_stays_paused_for_workers_that_start_later(site):
    site.dispatch("work", [1])
    site.driver.pause(site.queue)
    for _ in range(2):
        with site.starting("--stop-when-empty", command="work") as worker:
            assert worker.ended() == 0
    assert site.started == {}
    assert site.sizes() == (1, 0, 0)

    # When it is resumed under a running worker, I expect the job to run
    with site.worker("-c", "1"):
        assert site.started == {}
        site.driver.resume(site.queue)
        site.until(lambda: site.ended == {1})


@pytest.mark.parametrize("url", ["sqlite", "postgresql", "redis"], indirect=True)
def test_the_jobs_of_a_paused_task_are_parked_once_and_the_others_run(site):
    # Given jobs of a paused task before one of another, and a worker that starts later
    site.dispatch("nap", range(300), 0)
    parked = dict(site.ids)
    site.driver.suspend("task:nap")
    site.dispatch("work", [1000])
    with site.worker("-c", "1"):
        site.until(lambda: site.ended == {1000} and site.sizes() == (0, 300, 0))
        assert site.driver.parked("task:nap") == 300

        # When the pause is lifted, I expect all to run, each in its first attempt
        assert {view.attempts for view in site.driver.find(parked.values())} == {0}
        site.driver.lift("task:nap")
        site.until(lambda: site.ended == {*range(300), 1000})
    assert site.twice() == set()
