"""Two real beats: each tick is run once, also when one of them is killed."""

from __future__ import annotations

import signal

import pytest

from relevo.store import schedules
from relevo.store.store import store_for

EVERY, JOB = 0.5, 7


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_two_beats_of_which_one_is_killed_run_every_tick_once(site):
    # Given two beats and a worker. `all`: however busy this machine is, no tick may be left out
    site.schedule = {"often": {"task": "work", "schedule": EVERY, "args": [JOB], "catch_up": "all"}}

    def runs():
        return schedules.page(store_for(site.store_url), limit=1000)

    with (
        site.starting(command="beat") as one,
        site.starting(command="beat") as two,
        site.worker("-c", "2"),
    ):
        site.until(lambda: len(runs()) >= 3, "for the first runs")
        # When one of them is killed, a third takes its place, and the other is told to end
        one.signal(signal.SIGKILL)
        seen = len(runs())
        site.until(lambda: len(runs()) >= seen + 3, "for runs without it")
        with site.starting(command="beat") as three:
            assert two.stop() == 0
            seen = len(runs())
            site.until(lambda: len(runs()) >= seen + 3, "for runs of the third")
            assert three.stop() == 0
        site.until(
            lambda: site.empty() and site.facts("end").count(JOB) >= len(runs()), "for the jobs"
        )

    # I expect every tick from the first to the last, none of them twice, and each job run once
    dues = sorted(run.due for run in runs())
    assert dues == [dues[0] + EVERY * number for number in range(len(dues))]
    assert site.started[JOB] == len(dues)
    assert {run.state for run in runs()} == {"completed"}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_beat_in_a_worker_whose_main_process_is_killed_ends_too(site):
    site.schedule = {"often": {"task": "work", "schedule": EVERY, "args": [JOB]}}
    with site.worker("-c", "1", "-B") as worker:
        site.until(lambda: schedules.page(store_for(site.store_url)), "for a run of its beat")
        worker.signal(signal.SIGKILL)
        assert worker.ended() == -signal.SIGKILL  # with all of its session
