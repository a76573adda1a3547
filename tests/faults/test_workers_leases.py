"""A job longer than its lease starts once, in every pool; a thousand jobs run once on
two workers.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

import pytest

from relevo.drivers.contract import State
from tests.support.workers import Site

if TYPE_CHECKING:
    from pathlib import Path

POOLS = (["-P", "prefork", "-c", "1"], ["-P", "threads", "-c", "1"], ["-P", "solo"])


def test_a_job_that_outlives_its_lease_twice_is_started_once_in_every_pool(
    urls: list[str], tmp_path: Path
):
    """Beside each worker with a job an idle one waits, which would take an abandoned job."""
    lease, gate = (
        6.0,
        tmp_path / "gate",
    )  # 18 processes start meanwhile, and each must come round within a lease
    sites = [Site(url, tmp_path, lease) for url in urls for _ in POOLS]
    with contextlib.ExitStack() as workers:
        for number, site in enumerate(sites):
            site.dispatch("hold", [0], str(gate))
            workers.enter_context(site.starting(*POOLS[number % len(POOLS)]))
        ends = []
        for site in sites:
            ends.append(site.until(lambda site=site: site.started[0] and end_of_lease(site)))
            workers.enter_context(site.worker("-P", "solo"))
        for site, first in zip(sites, ends, strict=True):
            site.until(lambda site=site, first=first: end_of_lease(site) > first + 2 * lease)
        gate.touch()
        for site in sites:
            site.until(site.empty)
    assert [site.started for site in sites] == [{0: 1}] * len(sites)


def end_of_lease(site: Site) -> float:
    """When the lease of the site's only job ends; 0 without a lease."""
    held = site.driver.peek(site.queue, State.RESERVED)
    return held[0].reserved_until or 0.0 if held else 0.0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_two_workers_on_one_sqlite_file_run_a_thousand_jobs_once_each(site: Site):
    site.lease = 30.0  # both live, however slow the machine is
    site.dispatch("work", range(1000))
    with site.starting("-c", "2"), site.starting("-c", "2"):
        site.until(lambda: len(site.ended) == 1000)
        site.until(site.empty)
    assert set(site.started.values()) == {1}
    assert not site.logs().count("database is locked")


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_a_worker_that_stood_still_for_longer_than_a_lease_goes_on_with_what_it_runs(
    site: Site, tmp_path: Path
):
    """Its job is back in the queue and no worker has taken it; this worker has no room
    for another.
    """
    gate = tmp_path / "gate"
    site.dispatch("hold", [0], str(gate))
    with site.worker("-c", "1") as worker:
        site.until(lambda: site.started)
        worker.signal(signal.SIGSTOP)
        site.until(lambda: site.driver.rescue() and site.sizes() == (1, 0, 0))
        worker.signal(signal.SIGCONT)
        site.until(lambda: site.sizes() == (0, 0, 1))
        gate.touch()
        site.until(site.empty)
        assert worker.stop() == 0
    assert site.started == {0: 1}
