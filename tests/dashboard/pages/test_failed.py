"""Failed jobs on the dashboard: found, retried, edited and forgotten, and hostile ones shown as
text.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from relevo import clock
from relevo.dashboard.pages import failed as failures
from relevo.drivers import message_codec
from relevo.drivers.contract import State
from relevo.errors import DriverUnavailableError
from relevo.store import audit, failed, search
from relevo.store.failed import FailedJob
from tests.support.workers import payload_of

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&\u202egnp.exe\x00\ud800"
    " {{ 7*7 }} ünï"
)


@pytest.fixture
def fail(source):
    """Record a failed job."""

    def make(
        number=1,
        task="images.process",
        queue="default",
        message="no",
        tags=(),
        args=(7,),
        payload=None,
        **given,
    ):
        uuid = given.pop("uuid", f"{number:08d}-0000-4000-8000-000000000000")
        text = payload if payload is not None else payload_of(task, uuid, list(args), queue)
        errors = (
            {
                "attempt": 1,
                "exception": "ValueError",
                "message": message,
                "traceback": f"Traceback…\n{message}",
                "at": clock.now(),
            },
        )
        job = FailedJob(
            uuid=uuid,
            queue=queue,
            connection="database",
            payload=text,
            exception="ValueError",
            message=message,
            failed_at=given.pop("failed_at", clock.now()),
            task=task,
            tags=tags,
            attempts=1,
            errors=errors,
            arguments=f"{tuple(args)!r} {{}}",
            **given,
        )
        source.store.write(lambda connection: failed.record(connection, [job]))
        return failed.find_by_uuid(source.store, uuid)

    return make


def listed(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'<tr id="failed-(\d+)"', page)]


def pending(source, queue="default"):
    return source.driver.peek(queue, State.PENDING)


def test_a_failed_job_is_listed_with_its_error_and_can_be_retried_once(site, source, fail):
    job = fail(message="smtp refused")
    assert "smtp refused" in site.get("/failed")
    assert "1 job put back." in site.act("/failed/retry", id=job.id, back="/failed")
    assert [view.id for view in pending(source)] == [job.uuid]
    assert "No job has failed for good" in site.get("/failed")
    assert "retried already" in site.act("/failed/retry", id=job.id)
    assert len(pending(source)) == 1


def test_only_picked_jobs_are_retried(site, source, fail):
    jobs = [fail(number) for number in range(4)]
    site.act("/failed/retry", id=[jobs[0].id, jobs[2].id])
    assert listed(site.get("/failed")) == [jobs[3].id, jobs[1].id]


def test_only_hits_of_a_search_are_retried(site, source, fail):
    for number in range(3):
        fail(number, task="email.send", tags=(f"user:{number % 2}",))
    other = fail(9)
    assert "2 jobs put back." in site.act("/failed/retry", all="1", q="task:email.* tag:user:0")
    assert "1 job put back." in site.act("/failed/retry", all="1", q="task:email.send")
    assert listed(site.get("/failed")) == [other.id]


def test_jobs_are_forgotten_one_all_found_or_all(site, source, fail):
    jobs = [fail(number, queue="high" if number % 2 else "low") for number in range(5)]
    site.act("/failed/forget", id=jobs[0].id)
    assert "2 failed jobs forgotten" in site.act("/failed/forget", all="1", q="queue:high")
    assert "2 failed jobs forgotten" in site.act("/failed/forget", all="1", q="")
    assert failed.count_all(source.store) == 0


@pytest.mark.parametrize("numbers", [[], ["x"], ["1" * 19], ["-1"]])
def test_an_invalid_selection_of_jobs_does_nothing(site, source, fail, numbers):
    fail()
    assert "Not done: expected" in site.act("/failed/forget", id=numbers)
    assert failed.count(source.store) == 1


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("task:images.process", [1]),
        ("task:images.*", [1]),
        ("task:images", []),
        ("queue:high", [2]),
        ("tag:file:7", [1]),
        ("tag:file:*", [2, 1]),
        ('args:"two words"', [2]),
        ("error:timeout", [2]),
        ("error:100%", [1]),
        ("error:100_", []),
        ("id:00000002*", [2]),
        ("00000002", [2]),
        ("TIMED", [2]),
        ("task:email.send since:1h", [2]),
        ("until:2001-01-01", []),
        ("tag:file:8 timed", [2]),
        ("queue:low timed", []),
    ],
)
def test_a_search_by_terms_and_words(site, fail, query, found):
    fail(1, tags=("file:7",), message="100% wrong")
    fail(
        2,
        task="email.send",
        queue="high",
        tags=("file:8",),
        message="timed out: timeout",
        args=["two words"],
    )
    assert listed(site.get(f"/failed?q={quote(query)}")) == found


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("tsak:x", "did you mean &#x27;task&#x27;"),
        ("since:soon", "15m"),
        ("x" * 1001, "at most 1000"),
        ("+".join("ab" * 21), "at most 20"),
    ],
)
def test_an_invalid_search_is_an_error_and_does_nothing(site, source, fail, query, said):
    fail()
    assert said.replace("&#x27;", "'") in site.get(f"/failed?q={query}").replace(
        "&#x27;", "'"
    ).replace("&#39;", "'")
    site.act("/failed/forget", all="1", q=query.replace("+", " "))
    assert failed.count(source.store) == 1


def test_pages_go_from_the_newest_to_the_oldest(site, fail):
    jobs = [fail(number) for number in range(53)]
    page = site.get("/failed")
    first = listed(page)
    older = re.search(r'rel="next" href="([^"]+)"', page)[1]
    assert first + listed(site.get(older)) == [job.id for job in reversed(jobs)]


def test_a_failed_job_is_retried_with_other_arguments(site, source, fail):
    job = fail(args=["a"])
    page = site.act(
        f"/failed/{job.id}/edit",
        args='["ü", 2]',
        kwargs='{"size": {"w": 1}}',
        back=f"/job/{job.uuid}",
    )
    assert "Put back with the new arguments." in page
    (view,) = pending(source)
    message = message_codec.loads(view.payload)
    assert json.loads(message["body"])[:2] == [["ü", 2], {"size": {"w": 1}}]
    assert (message["headers"]["argsrepr"], message["headers"]["id"]) == ("('ü', 2)", job.uuid)
    assert "&quot;ü&quot;" in site.get(f"/job/{job.uuid}")
    assert "Not put back" in site.act(f"/failed/{job.id}/edit", args="[]", kwargs="{}")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [("[", "{}"), ("{}", "{}"), ("[]", "[]"), ("[]", "7"), ("[" * 100_000, "{}"), ("null", "{}")],
)
def test_invalid_arguments_change_nothing(site, source, fail, args, kwargs):
    job = fail()
    assert "Not done: expected the" in site.act(f"/failed/{job.id}/edit", args=args, kwargs=kwargs)
    assert failed.find(source.store, job.id).retried_at is None
    assert pending(source) == []


def test_a_malformed_message_is_shown_and_retried_unchanged(site, source, fail):
    job = fail(payload="no JSON <b>", task=None)
    assert "no JSON &lt;b&gt;" in site.get(f"/job/{job.uuid}")
    assert "can't be read" in site.act(f"/failed/{job.id}/edit", args="[]", kwargs="{}").replace(
        "&#x27;", "'"
    ).replace("&#39;", "'")
    site.act("/failed/retry", id=job.id)
    assert [view.payload for view in pending(source)] == ["no JSON <b>"]


def test_hostile_names_arguments_and_errors_are_plain_text_on_every_page(site, fail):
    clean = HOSTILE.replace("\x00", "").replace("\ud800", "")
    name = clean[:200]
    job = fail(
        task=name, queue=name, message=HOSTILE, tags=(clean,), args=[clean * 3000], batch=name
    )
    site.act("/queues/pause", queue=name, **{"for": ""})
    for path in (
        "/failed",
        f"/job/{job.uuid}",
        "/overview",
        "/pauses",
        "/audit",
        "/jobs",
        "/failed?q=alert",
    ):
        page = site.get(path)
        assert "<script>alert" not in page
        assert "<img" not in page
        assert len(page) < 200_000


def test_an_action_is_not_done_if_the_audit_log_can_not_be_written(site, source, fail, monkeypatch):
    job = fail()

    def away(*_):
        raise DriverUnavailableError("the database is away")

    monkeypatch.setattr(audit, "record", away)
    assert "the database is away" in site.act("/failed/retry", id=job.id)
    assert pending(source) == []


def test_an_unknown_job_is_not_found(site):
    assert site.ask("/job/no-such-job").code == 404
    assert site.ask("/job/" + "x" * 300).code == 404


def test_a_search_reads_one_window_at_a_time_and_an_action_on_all_reads_every_one(
    site, source, fail, monkeypatch
):
    for number in range(25):
        fail(number, message="the one" if number in {1, 2} else "no")
    monkeypatch.setattr(search, "FAILED_WINDOW", 10)
    monkeypatch.setattr(failures, "SEARCH_SECONDS", -1.0)
    monkeypatch.setattr(failures, "COUNT_SECONDS", -1.0)
    found, path = [], "/failed?q=error:one"
    while path:
        page = site.get(path)
        found.append(len(listed(page)))
        link = re.search(r'rel="next" href="([^"]+)"', page)
        path = link and link[1].replace("&amp;", "&")
        assert ("Search further back" in page) == bool(path)
    assert found == [0, 0, 2]
    assert "At least 2 jobs" in page
    assert "2 failed jobs forgotten" in site.act("/failed/forget", all="1", q="error:one")
    assert failed.count(source.store) == 23


@pytest.mark.parametrize(
    "before", ["x", "1", "1:", ":1", "1:x", "nan:1", "1e9:1", "1:" + "9" * 19, "1:1:1"]
)
def test_an_invalid_place_is_an_error_page(site, before):
    for path in ("failed", "audit", "jobs?state=completed"):
        assert site.ask(f"/{path}{'&' if '?' in path else '?'}before={before}").code == 400, path
