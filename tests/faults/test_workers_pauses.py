"""A paused queue stays paused: over restarts of the workers, and of the broker."""

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
