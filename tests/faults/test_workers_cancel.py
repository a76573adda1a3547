"""Jobs cancelled under real workers don't come back, and running ones can be killed."""

from __future__ import annotations

import signal

import pytest

from relevo import config
from relevo.app import create_app
from relevo.operations.cancel import cancel as cancel_jobs
from relevo.store.store import store_for
from tests.support.waits import LONG


@pytest.fixture
def app(site):
    settings = config.load({"QUEUE_RESULTS": "none", "DATABASE_URL": site.store_url}, env_file=None)
    return create_app("faults", settings, broker_url=site.url)


@pytest.fixture
def cancel(site, app):
    """Cancel a job of the site."""

    def cancel(number, **options):
        return cancel_jobs(
            app, site.driver, store_for(site.store_url), [site.ids[number]], **options
        )

    return cancel


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_a_job_cancelled_under_a_killed_worker_does_not_come_back(site, cancel, gate):
    # Given a running job and two that wait for it, and two of the three are cancelled
    site.dispatch("hold", [1, 2, 3], str(gate))
    with site.worker("-c", "1") as worker:
        site.until(lambda: site.running() == {1})
        assert [job.id for job in cancel(3).withdrawn] == [site.ids[3]]
        assert [job.id for job in cancel(1).running] == [site.ids[1]]

        # When their worker is killed and another one starts
        worker.kill()
    gate.touch()
    with site.worker("-c", "1"):
        # I expect the one that was not cancelled, and nothing else
        site.until(lambda: site.ended == {2} and site.empty())
    assert site.started == {1: 1, 2: 1}


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_a_running_job_can_be_killed_and_its_worker_goes_on(site, cancel, gate):
    site.dispatch("hold", [1], str(gate))
    with site.worker("-c", "1") as worker:
        site.until(lambda: site.running() == {1})
        assert [job.id for job in cancel(1, terminate=True).killed] == [site.ids[1]]
        site.dispatch("work", [2])
        site.until(lambda: site.ended == {2})
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
    assert site.started == {1: 1, 2: 1}
    assert site.empty()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_job_that_waits_for_celerys_rate_limit_can_be_cancelled_and_the_others_run_after_it(
    site, app, cancel
):
    def limit(rate):
        assert app.control.rate_limit("work", rate, reply=True, limit=1, timeout=LONG)

    with site.worker("-c", "2"):
        limit("1/h")
        site.dispatch("work", [1, 2, 3, 4])
        site.until(lambda: site.ended == {1} and f"[{site.ids[2]}] received" in site.logs())
        assert [job.id for job in cancel(2).running] == [site.ids[2]]
        limit("0")
        site.until(lambda: site.ended == {1, 3, 4} and site.empty())
    assert site.started == {1: 1, 3: 1, 4: 1}
