"""Error texts that UTF-8 or SQL can't hold, in a real worker on each broker, with results kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery import Celery

from relevo.batches.result_backends import register_backends
from relevo.database.engine import resolve
from tests.faults.conftest import BROKERS

if TYPE_CHECKING:
    from tests.support.workers import Site

TEXTS = ["caf\udce9.jpg", "a\0b", "\ud83d", "\x1b[2J\u2028"]


@pytest.mark.parametrize("url", [*BROKERS, "mariadb"], indirect=True)
def test_errors_with_any_text_are_tried_again_and_recorded_and_the_worker_goes_on(site: Site):
    # Given jobs that fail with such texts, and results beside the jobs in the same server
    is_redis = site.url.startswith("redis")
    results = site.url if is_redis else f"db+{resolve(site.url).render_as_string(False)}"
    site.config, site.keeps_results = {"result_backend": results}, True
    for number, text in enumerate(TEXTS):
        site.dispatch("hostile", [number], text)

    with site.worker("-c", "1") as worker:
        # I expect two attempts of each, its hook, its record and its result
        site.until(lambda: len(site.failed()) == len(TEXTS) and site.empty())
        assert set(site.started.values()) == {2}
        assert sorted(site.facts("failed")) == [*range(len(TEXTS))]
        assert {(job.exception, len(job.errors)) for job in site.failed()} == {("ValueError", 2)}
        register_backends()
        app = Celery(broker="memory://", backend=results, set_as_current=False)
        for id_ in (site.ids[number] for number in range(len(TEXTS))):
            result = app.AsyncResult(id_)
            assert (result.state, type(result.result)) == ("FAILURE", ValueError)

        # and the worker to go on
        site.dispatch("work", [99])
        site.until(lambda: 99 in site.ended)
        assert worker.alive()
