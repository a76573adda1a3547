"""Every way in which a body can end, in every pool, with and without tries, with results kept.

None may end the worker's main process, keep a place in its pool, or leave a job without a record.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.workers import Site

EXITED, MEMORY = "relevo.errors.JobExitedError", "relevo.errors.JobMemoryError"
LOST = "billiard.exceptions.WorkerLostError"
#: The ending of a body -> the error of a job that has failed with it.
TABLE = {
    "exit": EXITED,
    "interrupt": EXITED,
    "cancelled": EXITED,
    "base": EXITED,
    "memory": MEMORY,
    "unshowable": "tests.support.apps.journal.UnshowableError",
    "huge": "ValueError",
}
#: Endings of the process, which only a pool of processes outlives.
DEADLY = {"os-exit": LOST, "kill": LOST}
#: Green threads wait for a broker on the network.
TRIED = [(pool, url) for pool in ("prefork", "threads", "solo") for url in ("redis", "sqlite")]
TRIED += [("gevent", "redis")]
#: More workers than the deadly jobs can kill, three times each.
MOST_WORKERS = 20


@pytest.mark.parametrize(("pool", "url"), TRIED, indirect=["url"])
def test_however_a_body_ends_its_attempt_counts_and_the_worker_goes_on(site: Site, pool: str):
    if pool == "gevent" and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    table = TABLE | (DEADLY if pool == "prefork" else {})
    plain = dict(enumerate(table))
    tries = {100 + number: ending for number, ending in plain.items()}

    # Given a job of a plain task, and one with two tries, for each ending
    site.keeps_results = True
    for number, ending in plain.items():
        site.dispatch("end", [number], ending)
    for number, ending in tries.items():
        site.dispatch("end.tries", [number], ending)

    with site.worker("-c", "2", "-P", pool) as worker:
        site.until(lambda: len(site.failed()) >= len(table) * 2 and site.empty())

        # I expect each to have failed with its error, all tries and the hook to have run
        endings = {site.ids[number]: ending for number, ending in (plain | tries).items()}
        failed = {(endings[job.uuid], job.exception) for job in site.failed()}
        assert failed == {(ending, error) for ending, error in table.items()}
        assert site.started == dict.fromkeys(plain, 1) | dict.fromkeys(tries, 2)
        assert sorted(site.facts("failed")) == sorted(tries)

        # and the worker to have all its places
        site.dispatch("work", range(200, 206))
        site.until(lambda: site.ended == set(range(200, 206)) and site.empty())
        assert worker.alive()


@pytest.mark.parametrize("url", ["redis"], indirect=True)
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_job_that_ends_the_process_of_its_pool_has_failed_after_three_workers(
    site: Site, pool: str
):
    endings = [(name, ending) for name in ("end", "end.tries") for ending in DEADLY]
    for number, (name, ending) in enumerate(endings):
        site.dispatch(name, [number], ending)
    for _ in range(MOST_WORKERS):
        with site.worker("-c", "2", "-P", pool) as worker:
            site.until(lambda: not worker.alive() or len(site.failed()) == len(endings))
            if worker.alive():
                break
    assert {job.exception for job in site.failed()} == {"relevo.errors.UndeliverableError"}
