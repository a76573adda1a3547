"""Jobs in every state on the dashboard."""

from __future__ import annotations

import json
import re

import pytest

from relevo import clock
from relevo.dashboard import broker_jobs
from relevo.dashboard.pages import jobs
from relevo.drivers import message_codec
from relevo.drivers.contract import NewJob, State
from relevo.errors import DriverUnavailableError
from relevo.store import audit, failed, history, outcomes, search
from relevo.store.failed import FailedJob
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending
from tests.support.workers import payload_of


def rows(page: str) -> list[str]:
    return re.findall(r'<tr id="job-([^"]*)"', page)


@pytest.fixture
def put(source):
    def make(job_id, queue="default", delay=None, task="images.process", args=(1,)):
        at = None if delay is None else source.driver.now() + delay
        source.driver.put(
            [NewJob(queue, payload_of(task, job_id, list(args), queue), job_id, available_at=at)]
        )

    return make


@pytest.fixture
def ended(source):
    def make(job_id, state=Ended.COMPLETED, task="images.process", tags=(), ago=0.0, **given):
        job = EndedJob(
            job_id,
            task,
            "database",
            "default",
            state,
            1,
            clock.now() - ago,
            0.1,
            0.2,
            tags,
            **given,
        )
        outcomes.write(source.store, [Ending(job)])

    return make


def test_jobs_are_shown_in_the_state_that_they_are_in(site, source, put, ended):
    put("a")
    put("b", delay=600)
    put("c", queue="high")
    source.driver.reserve(["high"], 1, 30, "main@here")
    ended("d")
    ended("e", Ended.CANCELLED, message="revoked")
    shown = {
        state: rows(site.get(f"/jobs?state={state}"))
        for state in ("pending", "delayed", "running", "completed", "cancelled")
    }
    assert shown == {
        "pending": ["a"],
        "delayed": ["b"],
        "running": ["c"],
        "completed": ["d"],
        "cancelled": ["e"],
    }
    assert rows(site.get("/jobs")) == ["a"]
    for job_id in "abcde":
        assert f">{job_id}</code>" in site.get(f"/job/{job_id}")


@pytest.mark.parametrize(
    "path", ["/jobs?state=lost", "/jobs?state=completed&before=x", "/jobs?n=-1", "/jobs?n=1e9"]
)
def test_an_invalid_url_is_an_error_page(site, path):
    assert site.ask(path).code == 400


def test_waiting_jobs_are_found_by_queue_and_by_terms(site, put):
    put("a")
    put("b", queue="high", task="email.send", args=["to <ann>"])
    assert rows(site.get("/jobs?queue=high")) == ["b"]
    assert rows(site.get("/jobs?q=task:email.*")) == ["b"]
    assert rows(site.get("/jobs?q=queue:default")) == ["a"]
    assert rows(site.get("/jobs?q=id:zz")) == []


def test_more_of_a_long_queue_is_shown_on_request(site, source):
    names = [f"j{number:03d}" for number in range(70)]
    source.driver.put(
        [NewJob("default", payload_of("work", name, [], "default"), name) for name in names]
    )
    page = site.get("/jobs")
    assert rows(page) == names[:50]
    assert "The first 50 of 70, in the order" in page
    more = re.search(r'href="(/jobs\?[^"]*n=100)"', page)[1].replace("&amp;", "&")
    assert len(rows(site.get(more))) == 70


def test_ended_jobs_are_paged_by_key_and_found_by_terms(site, ended):
    for number in range(52):
        ended(f"j{number:02d}", ago=number, tags=("odd",) if number % 2 else ())
    page = site.get("/jobs?state=completed")
    older = re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    assert rows(page) + rows(site.get(older)) == [f"j{number:02d}" for number in range(52)]
    assert rows(site.get("/jobs?state=completed&q=tag:odd"))[:2] == ["j01", "j03"]
    assert rows(site.get("/jobs?state=completed&q=j07")) == ["j07"]


def test_waiting_jobs_are_cancelled_and_are_in_the_history(site, source, put):
    for job_id in ("a", "b", "c"):
        put(job_id)
    assert "2 jobs cancelled." in site.act("/jobs/cancel", id=["a", "b"])
    assert [view.id for view in source.driver.peek("default", State.PENDING)] == ["c"]
    assert history.find(source.store, "a").state is Ended.CANCELLED
    assert sorted(rows(site.get("/jobs?state=cancelled"))) == ["a", "b"]


def test_a_running_job_that_is_cancelled_does_not_run_again(site, source, put):
    put("a")
    source.driver.reserve(["default"], 1, 30, "main@here")
    assert "0 jobs cancelled. 1 run to their end, and not again." in site.act(
        "/jobs/cancel", id="a"
    )
    assert source.driver.find(["a"]) == []


def test_delayed_jobs_run_now(site, source, put):
    put("a", delay=600)
    assert "1 delayed job may run now." in site.act("/jobs/hasten", id="a")
    assert source.driver.sizes("default").pending == 1


def test_a_queue_is_cleared(site, source, put):
    put("a")
    put("b", delay=600)
    put("c", queue="high")
    assert "2 jobs of default deleted." in site.act("/queues/clear", queue="default")
    assert source.driver.queues() == ["high"]


def test_the_page_of_a_job_names_an_unreachable_broker_and_shows_the_rest(
    site, source, ended, monkeypatch
):
    def away(*_):
        raise DriverUnavailableError("redis is away")

    ended("a")
    monkeypatch.setattr(type(source), "driver", property(away))
    page = site.get("/job/a")
    assert "redis is away" in page
    assert "Completed" in page
    assert site.ask("/jobs").code == 503
    assert "redis is away" in site.get("/overview")


def test_silenced_jobs_are_listed_apart(site, ended):
    ended("a")
    ended("b", silenced=True)
    ended("c", Ended.CANCELLED)
    assert [
        rows(site.get(f"/jobs?state={state}")) for state in ("completed", "silenced", "cancelled")
    ] == [["a"], ["b"], ["c"]]
    assert rows(site.get("/jobs?state=silenced&q=nothing")) == []


def test_redacted_arguments_are_on_no_page(site, source, app, put):
    secret = "geheim-4711"
    body = {"password": secret, "user": {"api_key": secret}}
    for name, delay in (("a", None), ("b", 600)):
        put(name, args=[1, body], delay=delay)
    fields = {
        "uuid": "f",
        "queue": "default",
        "connection": "database",
        "exception": "E",
        "message": "m",
    }
    payload = payload_of("images.process", "f", [1, body], "default")
    job = FailedJob(**fields, payload=payload, failed_at=clock.now(), task="images.process")
    unread = FailedJob(
        **{**fields, "uuid": "u"}, payload=f'no JSON, password: "{secret}"', failed_at=clock.now()
    )
    source.store.write(lambda connection: failed.record(connection, [job, unread]))
    for path in (
        "/jobs",
        "/jobs?state=delayed",
        "/job/a",
        "/job/b",
        "/job/f",
        "/job/f?edit=1",
        "/job/u",
        "/failed",
        "/failed?q=args:geheim",
        "/api/relevo/jobs",
        "/api/relevo/job/a",
        "/api/relevo/job/f",
        "/api/relevo/job/u",
        "/api/relevo/failed",
    ):
        assert secret not in site.get(path), path
    assert "[redacted]" in site.get("/job/f")
    assert "No failed job fits" in site.get("/failed?q=args:geheim")
    number = failed.find_by_uuid(source.store, "f").id
    site.act(
        f"/failed/{number}/edit",
        args='[2, {"password": "[redacted]", "user": {"api_key": "new"}}]',
        kwargs="{}",
    )
    again = next(view for view in source.driver.peek("default", State.PENDING) if view.id == "f")
    assert json.loads(message_codec.loads(again.payload)["body"])[0] == [
        2,
        {"password": secret, "user": {"api_key": "new"}},
    ]
    assert secret not in site.get("/audit")


def test_a_search_without_an_index_reads_one_window_at_a_time(site, ended, monkeypatch):
    for number in range(28):
        ended(f"j{number:02d}", ago=number, message="the one" if number == 25 else "")
    monkeypatch.setattr(search, "HISTORY_WINDOW", 10)
    monkeypatch.setattr(jobs, "SEARCH_SECONDS", 60.0)
    assert rows(site.get("/jobs?state=completed&q=error:one")) == ["j25"]
    monkeypatch.setattr(jobs, "SEARCH_SECONDS", -1.0)
    found, path = [], "/jobs?state=completed&q=error:one"
    for looked in range(3):
        page = site.get(path)
        found.append(rows(page))
        link = re.search(r'rel="next" href="([^"]+)"', page)
        assert (link is not None) == (looked < 2)
        assert ("Search further back" in page) == (looked < 2)
        path = link and link[1].replace("&amp;", "&")
    assert found == [[], [], ["j25"]]
    monkeypatch.setattr(jobs, "SEARCH_SECONDS", 60.0)
    assert "No completed job fits" in site.get("/jobs?state=completed&q=task:nothing")


@pytest.fixture
def deep(source, put, monkeypatch):
    """Pending and delayed jobs of two tasks, more than a search reads, and one running job."""
    monkeypatch.setattr(broker_jobs, "MOST_SEARCHED", 3)
    put("running", task="email.send")
    source.driver.reserve(["default"], 1, 30, "main@here")
    for number in range(8):
        put(f"p{number}", task="email.send" if number % 2 else "images.process")
        put(f"d{number}", delay=600, queue="high" if number % 2 else "default")

    def left(queue="default", state=State.PENDING):
        return [view.id for view in source.driver.peek(queue, state)]

    return left


def test_all_hits_of_a_search_are_cancelled_also_those_not_shown(site, source, deep):
    page = site.get("/jobs?q=task:email.send")
    assert rows(page) == ["p1"]
    assert "Looked through the first 3 of each queue" in page
    assert "Cancel every pending job that fits, also those that are not shown?" in page
    assert "4 jobs cancelled." in site.act(
        "/jobs/cancel", all="1", state="pending", q="task:email.send"
    )
    assert deep() == ["p0", "p2", "p4", "p6"]
    assert [view.id for view in source.driver.find(["running"])] == ["running"]
    assert history.find(source.store, "p7").state is Ended.CANCELLED
    [entry] = audit.page(source.store)
    told = ("cancel", "all pending jobs that fit: task:email.send", "4 jobs cancelled.")
    assert (entry.action, entry.target, entry.outcome) == told


def test_all_delayed_jobs_of_a_queue_run_now_or_are_deleted_without_a_trace(site, source, deep):
    assert "Run all now" in site.get("/jobs?state=delayed&queue=high")
    assert "4 delayed jobs may run now." in site.act(
        "/jobs/hasten", all="1", state="delayed", queue="high", q=""
    )
    assert sorted(deep("high")) == ["d1", "d3", "d5", "d7"]
    assert "4 jobs deleted." in site.act("/jobs/delete", all="1", state="delayed", q="")
    assert deep(state=State.DELAYED) == []
    assert history.find(source.store, "d0") is None
    assert "8 jobs deleted." in site.act(
        "/jobs/delete", all="1", state="pending", queue="default", q=""
    )


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        ("stop", {"state": "pending"}, "expected state to be"),
        ("cancel", {"state": "running"}, "expected state to be pending or delayed"),
        ("hasten", {"state": "pending"}, "expected state to be delayed"),
        ("delete", {}, "expected state to be pending or delayed"),
        ("delete", {"state": "pending", "q": "tsak:x"}, "did you mean"),
    ],
)
def test_an_action_without_selected_jobs_does_nothing(site, deep, path, fields, said):
    assert said in site.act(f"/jobs/{path}", all="1", **fields)
    assert (len(deep()), len(deep(state=State.DELAYED))) == (8, 4)


def test_jobs_whose_deletion_could_not_be_recorded_are_back(site, source, deep, monkeypatch):
    def away(*_):
        raise DriverUnavailableError("the database is away")

    monkeypatch.setattr(history, "forget", away)
    assert "the database is away" in site.act("/jobs/delete", all="1", state="pending", q="")
    assert sorted(deep()) == [f"p{number}" for number in range(8)]


def test_an_id_is_found_at_any_depth_of_a_queue(site, deep):
    assert rows(site.get("/jobs?q=id:p7")) == ["p7"]
    assert rows(site.get("/jobs?q=id:d7")) == []
