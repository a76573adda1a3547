"""A batch and a chord whose workers are killed: counts are exact, and each callback comes once."""

from __future__ import annotations

from collections import Counter

import celery
import pytest
from celery import chord

from relevo import config
from relevo.app import create_app
from relevo.store.batches import ended_members
from relevo.store.store import store_for
from tests.support.workers import EVERYTHING

MEMBERS, PARTS, KILLS = 200, 60, 2


@pytest.fixture
def app(site):
    """The dispatcher's app; the workers have their own."""
    settings = config.load(
        {"QUEUE_RESULTS": "database", "DATABASE_URL": site.store_url}, env_file=None
    )
    app = create_app(
        "faults",
        settings,
        broker_url=site.url,
        task_default_queue=site.queue,
        task_ignore_result=True,
    )

    @app.task(name="member", shared=False)
    def member(number): ...

    @app.task(name="told", shared=False)
    def told(batch, what): ...

    @app.task(name="told.dies", shared=False)
    def told_dies(batch, what): ...

    @app.task(name="told.once", shared=False)
    def told_once(batch, what): ...

    @app.task(name="part", shared=False)
    def part(number): ...

    @app.task(name="joined", shared=False)
    def joined(numbers): ...

    return app


def test_whichever_worker_is_killed_the_counts_are_exact_and_each_callback_comes_once(site, app):
    member, told = app.tasks["member"], app.tasks["told"]
    members = [
        [member.si(n), member.si(n + 1000)] if n % 40 == 0 else member.si(n) for n in range(MEMBERS)
    ]
    batch = (
        app.batch(members)
        .then(told.s("then"))
        .catch(told.s("catch"))
        .finally_(told.s("finally"))
        .dispatch()
    )
    parts = chord(
        [app.tasks["part"].s(n) for n in range(PARTS)], app.tasks["joined"].s()
    ).apply_async()
    for kill in range(1, KILLS + 1):
        with site.worker("-c", "2"):
            site.until(
                lambda kill=kill: len(site.ended) >= kill * MEMBERS // (KILLS + 2),
                "for members to end",
            )
    with site.worker("-c", "2"):
        site.until(
            lambda: batch.refresh().finished and {"then", "finally"} <= set(site.facts("told")),
            "for the batch",
        )
        site.until(lambda: site.facts("joined"), "for the chord")
        site.until(site.empty, "for the queue")
    counted = ended_members(store_for(site.store_url), batch.id, limit=EVERYTHING)
    assert Counter(end.state for end in counted) == {"completed": MEMBERS}
    assert (batch.total, batch.completed, batch.failed, batch.dropped) == (MEMBERS, MEMBERS, 0, 0)
    assert site.ended == set(range(MEMBERS)) | {n + 1000 for n in range(0, MEMBERS, 40)}
    assert Counter(site.facts("told")) == {"then": 1, "finally": 1}
    counted = app.batches.find(parts.parent.id)
    assert (counted.kind, counted.total, counted.completed, counted.failed) == (
        "chord",
        PARTS,
        PARTS,
        0,
    )
    assert site.facts("joined") == [list(range(PARTS))]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_callback_whose_worker_is_killed_before_its_ack_was_handed_in_once_and_runs_again(
    site, app
):
    """Delivered twice, under one id; and one with a receipt takes effect once all the same."""
    dies, once = app.tasks["told.dies"], app.tasks["told.once"]
    members = (app.tasks["member"].si(n) for n in range(5))
    batch = app.batch(members).then(dies.s("then")).finally_(once.s("finally")).dispatch()
    workers = 0
    while not _all_was_told(site):
        workers += 1
        with site.worker("-c", "1") as worker:
            site.until(
                lambda worker=worker: _all_was_told(site) or not worker.alive(),
                "for its end, or for all of it",
            )
    ran = Counter(map(tuple, site.facts("told")))
    assert set(ran) == {("then", f"{batch.id}.then"), ("finally", f"{batch.id}.finally")}
    assert ran["finally", f"{batch.id}.finally"] == 1
    assert (
        ran["then", f"{batch.id}.then"] >= 2
    )  # three times, if the other one takes its worker with it, too
    assert workers >= 3
    assert (batch.refresh().completed, sorted(site.facts("end"))) == (5, list(range(5)))


def _all_was_told(site):
    return len(site.facts("told")) >= 3 and site.empty()


@pytest.mark.parametrize("url", ["sqlite", "redis", "postgresql"], indirect=True)
def test_work_that_stops_when_empty_runs_what_follows_from_its_jobs(site, app):
    # Given batches, chains and chords, with what comes of a failure, and callbacks behind callbacks
    member, part, told = (app.tasks[name] for name in ("member", "part", "told"))
    unknown = app.signature("a task that no worker knows")
    last = app.batch([member.si(3)]).then(told.s("link")).catch(told.s("never"))
    for new in (
        app.batch([member.si(1)]).then(told.s("then")).finally_(told.s("finally")),
        app.batch([unknown, member.si(2)]).allow_failures(told.s("one")).catch(told.s("catch")),
        app.chain(part.si(1), part.s(), last).then(told.s("chain")),
        app.chain(unknown, part.si(1)).finally_(told.s("broken")),
        app.batch([]).then(celery.chain(part.si(1), part.s(), told.si("b", "behind"))),
    ):
        new.dispatch()
    chord([part.s(4), chord([part.s(5)], part.si(6))], app.tasks["joined"].s()).apply_async()

    # When one worker works until its queue is empty
    with site.starting("--stop-when-empty", "-c", "2", command="work") as worker:
        assert worker.ended() == 0

    # I expect that nothing is left for a next one
    expected = ("then", "finally", "one", "catch", "link", "chain", "broken", "behind")
    assert Counter(site.facts("told")) == Counter(expected), site.logs()
    assert site.facts("joined") == [[4, 6]]
    assert site.empty()
