"""A batch while its workers are killed: the counts are exact, and each callback comes once."""

from __future__ import annotations

from collections import Counter

import pytest

from relevo import config
from relevo.app import create_app
from relevo.store.batches import ended_members
from relevo.store.session import store_for
from tests.faults.workers import EVERYTHING

MEMBERS, KILLS = 200, 2


@pytest.fixture
def app(site):
    """The app of whoever dispatches, beside the workers' own."""
    settings = config.load({"QUEUE_RESULTS": "none", "DATABASE_URL": site.store_url}, env_file=None)
    app = create_app("faults", settings, broker_url=site.url, task_default_queue=site.queue)

    @app.task(name="member", shared=False)
    def member(number): ...

    @app.task(name="told", shared=False)
    def told(batch, what): ...

    return app


def test_whoever_is_killed_the_counts_are_exact_and_each_callback_comes_once(site, app):
    member, told = app.tasks["member"], app.tasks["told"]
    members = [[member.si(n), member.si(n + 1000)] if n % 40 == 0 else member.si(n) for n in range(MEMBERS)]
    batch = (
        app.batch(members).then(told.s("then")).catch(told.s("catch")).finally_(told.s("finally")).dispatch()
    )  # fmt: skip
    for kill in range(1, KILLS + 1):
        with site.worker("-c", "2"):
            site.until(lambda kill=kill: len(site.ended) >= kill * MEMBERS // (KILLS + 2), "for members to end")
    with site.worker("-c", "2"):
        site.until(lambda: batch.refresh().finished and {"then", "finally"} <= set(site.facts("told")), "for the batch")
        site.until(site.empty, "for the queue")
    counted = ended_members(store_for(site.store_url), batch.id, limit=EVERYTHING)
    assert Counter(end.state for end in counted) == {"completed": MEMBERS}
    assert (batch.total, batch.completed, batch.failed, batch.dropped) == (MEMBERS, MEMBERS, 0, 0)
    assert site.ended == set(range(MEMBERS)) | {n + 1000 for n in range(0, MEMBERS, 40)}
    assert Counter(site.facts("told")) == {"then": 1, "finally": 1}
