"""Batches and limits on the dashboard."""

from __future__ import annotations

import re

import pytest

from relevo import clock
from relevo.drivers.contract import NewJob, State
from relevo.limits.contract import Holder
from relevo.middleware.limit_context import limits_for
from relevo.store import outcomes
from relevo.store.batches import MemberEnd
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending
from tests.support.workers import payload_of


@pytest.fixture
def batch(app):
    task = app.tasks["images.process"]
    return (
        app.batch(task.s(number) for number in range(4))
        .name("pictures <b>")
        .allow_failures()
        .dispatch()
    )


def test_a_batch_is_listed_with_its_progress_and_has_a_page(site, batch):
    listed = site.get("/batches").partition(f'id="batch-{batch.id}"')[2].partition("</tr>")[0]
    assert "pictures &lt;b&gt;" in listed
    assert '<progress max="100" value="0"' in listed
    assert ">4</td>" in listed
    page = site.get(f"/batch/{batch.id}")
    assert "0 of 4 have ended" in page
    assert "No member has ended yet" in page


def test_a_batch_is_cancelled(site, batch):
    page = site.act(f"/batch/{batch.id}/cancel", back=f"/batch/{batch.id}")
    assert "is cancelled" in page
    assert batch.refresh().cancelled


def test_an_unknown_batch_is_not_found_and_has_no_actions(site):
    assert site.ask("/batch/nothing").code == 404
    assert "Not done: there is no batch" in site.act("/batch/nothing/cancel")
    assert "Not done: there is no batch" in site.act("/batch/nothing/retry")
    assert site.ask("/batches?before=x").code == 400


def test_batches_are_paged(site, app):
    task = app.tasks["images.process"]
    for number in range(52):
        app.batch([task.s(number)]).name(f"b{number}").dispatch()
    page = site.get("/batches")
    older = re.search(r'rel="next" href="([^"]+)"', page)[1]
    found = re.findall(r'<tr id="batch-([^"]+)"', page + site.get(older))
    assert len(found) == len(set(found)) == 52


def test_a_limit_is_shown_with_its_holders_and_cleared(site, source):
    assert "No limit is in use" in site.get("/limits")
    source.driver.put(
        [NewJob("default", payload_of("events.process", "some-job", [], "default"), "some-job")]
    )
    (job,) = source.driver.reserve(["default"], 1, 30, "main@here")
    limits_for(source.driver).take(
        "overlap/events.process", 1, Holder(job.lease.token, job.id, "events.process")
    )
    page = site.get("/limits")
    assert "overlap/events.process" in page
    assert 'href="/job/some-job"' in page
    assert "is cleared" in site.act("/limits/clear", key="overlap/events.process", back="/limits")
    assert "Not done" in site.act("/limits/clear", key="")


def test_a_job_of_the_history_is_shown_after_its_batch_is_deleted(site, source):
    job = EndedJob("x", "images.process", "database", "default", Ended.COMPLETED, 1, clock.now())
    outcomes.write(source.store, [Ending(job)])
    assert "completed" in site.get("/job/x")


def test_a_job_links_to_its_batch_while_it_waits_and_after_it_has_ended(site, source, batch):
    (view, *_) = source.driver.peek("default", State.PENDING)
    link = f'href="/batch/{batch.id}"'
    assert link in site.get(f"/job/{view.id}")
    source.driver.delete([view.id])
    job = EndedJob(
        view.id, "images.process", "database", "default", Ended.COMPLETED, 1, clock.now()
    )
    outcomes.write(
        source.store, [Ending(job, members=(MemberEnd(batch.id, 0, "completed", view.id),))]
    )
    assert link in site.get(f"/job/{view.id}")


def test_a_link_of_a_chain_links_to_the_following_ones(app, site, source):
    task = app.tasks["images.process"]
    app.chain(task.si(1), task.si(2)).name("an order").dispatch()
    (view,) = source.driver.peek("default", State.PENDING)
    assert re.search(r"<dt>Then</dt><dd>.*images.process", site.get(f"/job/{view.id}"))
    assert "<dt>Then</dt>" not in site.get(f"/job/{view.id}").partition("<dt>Then</dt>")[2]


def test_a_rate_is_set_from_the_page_and_reset(app, site):
    app.limits.define("mail", "10/hour")
    assert "10/hour fixed" in site.get("/limits")
    assert "mail: 20/hour fixed from now on." in site.act(
        "/limits/rate", name="mail", rate="20/hour", back="/limits"
    )
    assert "20/hour fixed (set by hand)" in site.get("/limits")
    assert "mail: 10/hour fixed from now on." in site.act(
        "/limits/rate", name="mail", rate="default", back="/limits"
    )
    for name, rate, said in (
        ("mail", "often", "expected a rate like"),
        ("nobody", "1/hour", "no limit named"),
        ("", "1/hour", "Not done"),
    ):
        assert said in site.act("/limits/rate", name=name, rate=rate, back="/limits")


def test_holders_of_permits_and_waiting_jobs_are_shown(site, source):
    for name in ("a", "b"):
        source.driver.put([NewJob("default", payload_of("x", name, [], "default"), name)])
    limits = limits_for(source.driver)
    for job in source.driver.reserve(["default"], 2, 60, "main@here"):
        limits.take("overlap/x", 1, Holder(job.lease.token, job.id, "x"))
    row = site.get("/limits").partition('id="limit-overlap/x"')[2].partition("</tr>")[0]
    assert re.search(r'held by <a href="/job/a">.* its lease ends <time', row)
    assert 'aria-label="Number 1 in line, job b"' in row
