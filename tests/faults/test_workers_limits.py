"""Limits over several real workers hold, and a killed worker's permit becomes free."""

from __future__ import annotations

import signal
from pathlib import Path

from relevo.middleware.limit_context import clear, limits_beside
from tests.support.workers import Site


def most_at_once(site: Site) -> int:
    running, most = 0, 0
    for fact, _number, _pid, _time in site.lines():
        running += {"start": 1, "end": -1}.get(fact, 0)
        most = max(most, running)
    return most


def test_two_workers_of_four_never_run_more_than_the_permits_and_none_burns_its_only_try(
    url: str, tmp_path: Path
):
    site = Site(
        url, tmp_path, lease=30
    )  # a second is short for eight processes that all write to one file
    site.dispatch("limited.work", range(18), 0.05)
    with site.worker("-c", "4"), site.worker("-c", "4"):
        site.until(lambda: len(site.ended) == 18)
        site.until(site.empty)
    assert set(site.started.values()) == {1}
    assert most_at_once(site) <= 3
    assert site.failed() == []
    assert [
        view
        for view in limits_beside(site.driver).views(f"overlap/work {site.queue}")
        if view.holders or view.line
    ] == []


def test_a_permit_of_a_killed_worker_is_free_when_its_lease_ends(site: Site, tmp_path: Path):
    gate = tmp_path / "gate"
    with site.worker("-c", "1") as killed:
        site.dispatch("limited.hold", [0], str(gate))
        site.until(lambda: site.running() == {0})
        with site.worker("-c", "2"):
            # Given one job that holds the permit for longer than a lease, and two that wait for it
            site.dispatch("limited.hold", [1, 2], str(gate))
            limits = limits_beside(site.driver)
            site.until(
                lambda: any(
                    view.waiting == 2 for view in limits.views(f"overlap/hold {site.queue}")
                )
            )
            assert site.started == {0: 1}

            # When its worker, children and all, is killed
            killed.kill()
            assert killed.ended() == -signal.SIGKILL

            # I expect one to run at once again, and all to run in the end
            site.until(lambda: sum(site.started.values()) == 2)
            gate.touch()
            site.until(lambda: site.ended == {0, 1, 2})
            site.until(site.empty)
    assert site.started == {0: 2, 1: 1, 2: 1}
    assert most_at_once(site) <= 2  # the killed one has no end
    assert site.failed() == []


def test_a_job_that_waits_for_its_limits_has_not_started_and_keeps_its_key(
    site: Site, tmp_path: Path
):
    gate, start = tmp_path / "gate", {"key": f"start {site.queue}", "until": "start"}

    def dispatched(number: int) -> bool:
        return site.dispatch("limited.hold", [number], str(gate), **start)[0].created

    with site.worker("-c", "2"):
        # Given a job that runs, so that its key is free, and one that has to wait for the permit
        assert dispatched(0)
        site.until(lambda: site.running() == {0})
        assert dispatched(1)
        site.until(
            lambda: (
                [
                    view.waiting
                    for view in limits_beside(site.driver).views(f"overlap/hold {site.queue}")
                ]
                == [1]
            )
        )
        site.until(lambda: site.sizes() == (0, 1, 1))

        # I expect others to be kept out until that one starts, too
        assert not dispatched(2)
        gate.touch()
        site.until(lambda: site.ended == {0, 1})
        assert dispatched(3)
        site.until(lambda: site.ended == {0, 1, 3})
    assert set(site.started.values()) == {1}


def test_a_process_of_the_pool_that_is_killed_under_a_permit_gives_it_back(site: Site):
    with site.worker("-c", "1"):
        site.dispatch("limited.kill", [0], True)
        site.dispatch("limited.kill", range(1, 6))
        site.until(lambda: site.ended == {1, 2, 3, 4, 5})
        site.until(site.empty)
    assert set(site.started.values()) == {1}
    assert most_at_once(site) <= 2  # the killed one has no end
    assert [
        view
        for view in limits_beside(site.driver).views(f"overlap/kill {site.queue}")
        if view.holders or view.line
    ] == []


def test_a_rate_is_kept_by_two_workers_together(url: str, tmp_path: Path):
    site = Site(url, tmp_path, lease=30)
    daily, limits = f"rate/daily/{site.queue}", limits_beside(site.driver)
    with site.worker("-c", "4"), site.worker("-c", "4"):
        # Given nine jobs of which five may run in a day, I expect that five run, and that four wait
        # in the broker
        site.dispatch("limited.daily", range(9))
        site.until(lambda: len(site.ended) >= 5 and site.sizes() == (0, 4, 0))
        assert len(site.started) == 5
        assert [(view.used, view.waiting) for view in limits.views(daily)] == [(5, 4)]

        # When the day is over, or an operator says so, I expect the rest to run
        clear(site.driver, daily)
        site.until(lambda: len(site.ended) == 9)

        # I expect the jobs of a rate, which opens again by itself, to need no call
        site.dispatch("limited.rate", range(9, 18))
        site.until(lambda: len(site.ended) == 18)
    assert set(site.started.values()) == {1}
    assert site.failed() == []


def test_no_limit_that_a_killed_worker_held_is_stuck(site: Site, tmp_path: Path):
    gate = str(tmp_path / "gate")
    unique = {"key": f"unique {site.queue}"}
    latest = {"key": f"latest {site.queue}", "on": "latest", "until": "start"}
    with site.worker("-c", "2") as killed:
        # Given a worker that runs a unique job under a permit, a rate and a breaker, and a
        # debounced one
        site.dispatch("limited.every", [0], gate, **unique)
        site.dispatch("hold", [1], gate, **latest)
        site.until(lambda: site.running() == {0, 1})
        with site.worker("-c", "4"):
            # When it is killed, and dispatches come meanwhile
            killed.kill()
            assert killed.ended() == -signal.SIGKILL
            assert not site.dispatch("limited.every", [2], gate, **unique)[0].created
            assert site.dispatch("hold", [3], gate, **latest)[0].created

            # I expect both to run again, the debounced one that came beside them, and then the next
            # of the key
            site.until(lambda: site.started[0] > 1 and site.started[1] > 1)
            Path(gate).touch()
            site.until(lambda: site.ended == {0, 1, 3})
            site.until(site.empty)
            assert site.dispatch("limited.every", [4], gate, **unique)[0].created
            site.until(lambda: site.ended == {0, 1, 3, 4})
            site.until(site.empty)
    assert site.failed() == []
    views = limits_beside(site.driver).views(f"overlap/every {site.queue}")
    assert [view for view in views if view.holders or view.line] == []
