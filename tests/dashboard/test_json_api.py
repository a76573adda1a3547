"""The dashboard's pages and actions as JSON, with a token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relevo import clock
from relevo.dashboard import json_api, routes
from relevo.drivers import message_codec
from relevo.drivers.contract import NewJob, State
from relevo.errors import DriverUnavailableError
from relevo.store import audit, failed, history, outcomes
from relevo.store.failed import FailedJob
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending
from tests.support.dashboard_site import PASSWORDS, Site
from tests.support.hostile_text import HOSTILE
from tests.support.workers import payload_of

TOKEN = "ci-" + "0123456789abcdef" * 2
DOCS = Path(__file__).resolve().parents[2] / "docs" / "dashboard-api.md"


class Program:
    """A client of the JSON API."""

    def __init__(self, site: Site, token: str = TOKEN) -> None:
        self.site, self.sent = site, {"Authorization": f"Bearer {token}"}

    def ask(self, path: str, body: object = None) -> tuple[int, dict]:
        sent = () if body is None else ("POST", json.dumps(body), "application/json")
        answer = self.site.ask(f"/api/relevo{path}", *sent, **self.sent)
        return answer.code, json.loads(answer.body)

    def get(self, path: str) -> dict:
        code, said = self.ask(path)
        assert code == 200, said
        return said

    def do(self, path: str, **fields: object) -> str:
        code, said = self.ask(path, fields)
        assert code == 200, said
        return said["done"]


@pytest.fixture
def opened(app):
    """Makes dashboards of the app."""
    sites = []

    def make(**options):
        sites.append(Site(app, **{"api_tokens": [f"ci:{TOKEN}"], **options}))
        return Program(sites[-1])

    yield make
    for each in sites:
        each.close()


@pytest.fixture
def program(opened):
    return opened(basic_auth=PASSWORDS)


@pytest.fixture
def store(program):
    return program.site.dashboard.source.store


@pytest.fixture
def fail(store):
    def make(number=1, **given):
        uuid = f"{number:08d}-0000-4000-8000-000000000000"
        job = FailedJob(
            uuid=uuid,
            queue="default",
            connection="database",
            exception="ValueError",
            message=HOSTILE,
            failed_at=clock.now(),
            payload=payload_of("images.process", uuid, [7], "default"),
            task="images.process",
            attempts=1,
            **given,
        )
        store.write(lambda connection: failed.record(connection, [job]))
        return failed.find_by_uuid(store, uuid)

    return make


def put(program, *ids, delay=None):
    driver = program.site.dashboard.source.driver
    at = None if delay is None else driver.now() + delay
    driver.put(
        [
            NewJob(
                "default", payload_of("images.process", each, [1], "default"), each, available_at=at
            )
            for each in ids
        ]
    )


def test_every_route_is_listed_documented_and_answers(program):
    listed = {(route["method"], route["path"]) for route in program.get("")["routes"]}
    assert len(listed) == len(json_api.list_routes(routes.PAGES)) > 25
    page = DOCS.read_text()
    assert [path for method, path in sorted(listed) if f"`{method} {path}`" not in page] == []
    for method, path in listed:
        if method == "GET" and "{" not in path and path != "/api/relevo/schedule/entry":
            assert program.ask(path.removeprefix("/api/relevo"))[0] == 200, path


def test_jobs_are_read_in_every_state_and_page_by_page(program, store):
    put(program, "a", "b")
    put(program, "later", delay=60)
    ends = [
        EndedJob(
            f"e{n:02d}",
            HOSTILE,
            "database",
            "default",
            Ended.COMPLETED,
            1,
            clock.now() - n,
            0.1,
            0.2,
            ("t",),
        )
        for n in range(60)
    ]
    outcomes.write(store, [Ending(job) for job in ends])
    assert [job["id"] for job in program.get("/jobs")["jobs"]] == ["a", "b"]
    assert program.get("/jobs?state=delayed")["jobs"][0]["state"] == "delayed"
    first = program.get("/jobs?state=completed")
    second = program.get(f"/jobs?state=completed&before={first['next']['before']}")
    assert [job["uuid"] for job in first["jobs"] + second["jobs"]] == [job.uuid for job in ends]
    assert second["next"] is None
    assert first["jobs"][0]["task"] == HOSTILE
    assert program.get("/job/e07")["ended"]["ran"] == 0.2
    assert program.get("/overview")["jobs_past_hour"] == 60
    assert program.get("/charts")["rows"][0]["jobs"] == 60
    assert program.get("/tags")["tags"][0] == {
        "tag": "t",
        "watched": False,
        "jobs": 60,
        "failed": 0,
    }


def test_failed_jobs_are_read_retried_edited_and_forgotten(program, store, fail):
    jobs = [fail(number) for number in range(5)]
    said = program.get("/failed?q=task:images.*")
    assert (said["count"], said["jobs"][0]["message"]) == (5, HOSTILE)
    assert "payload" not in said["jobs"][0]
    assert program.do("/failed/retry", id=[jobs[0].id, str(jobs[1].id)]) == "2 jobs put back."
    assert program.do(
        f"/failed/{jobs[2].id}/edit", args=["ü", 2], kwargs={"size": None}
    ).startswith("Put back")
    driver = program.site.dashboard.source.driver
    edited = next(view for view in driver.peek("default", State.PENDING) if view.id == jobs[2].uuid)
    assert json.loads(message_codec.loads(edited.payload)["body"])[:2] == [["ü", 2], {"size": None}]
    assert program.do("/failed/forget", id=jobs[3].id) == "1 failed job forgotten."
    assert program.do("/failed/forget", all=True, q="task:images.process").startswith(
        "1 failed job"
    )
    assert failed.count(store) == 0


def test_jobs_are_cancelled_and_run_now_and_queues_paused(program, store):
    put(program, "a")
    put(program, "b", "c", delay=60)
    assert program.do("/jobs/hasten", id="b").startswith("1 delayed job")
    assert program.do("/jobs/cancel", id=["a", "c"]) == "2 jobs cancelled."
    assert history.find(store, "a").state is Ended.CANCELLED
    assert (
        program.do("/queues/pause", queue="default", **{"for": 900})
        == "default is paused for 15 minutes."
    )
    assert program.get("/pauses")["queues"][0]["queue"] == "default"
    assert program.do("/queues/resume", queue="default") == "default goes on."
    log = program.get("/audit")["actions"]
    assert {entry["who"] for entry in log} == {"ci"}
    assert len(log) == 4


def test_errors_are_json(program, monkeypatch):
    assert program.ask("/jobs?state=lost")[0] == 400
    assert program.ask("/charts?range=2h") == (
        400,
        {"error": "expected range to be one of 1h, 24h, 7d, got '2h'", "status": 400},
    )
    for path in ("/jobs?q=tsak:x", "/failed?q=tsak:x"):
        code, said = program.ask(path)
        assert (code, said["error"][:15]) == (400, "expected one of")
    assert program.ask("/nothing/here")[1]["error"].startswith(
        "there is no such thing here; GET /api/relevo"
    )
    assert program.ask("/job/nobody") == (
        404,
        {"error": "There is no job with this id: it may be over and forgotten.", "status": 404},
    )
    code, said = program.ask("/queues/pause", {"queue": "", "for": ""})
    assert (code, said["status"]) == (409, 409)
    assert "expected a queue's name" in said["error"]
    for body in ([], "x", 7):
        assert program.ask("/queues/pause", body)[0] == 400

    def away(*_):
        raise DriverUnavailableError("the database is away")

    monkeypatch.setattr(audit, "record", away)
    assert program.ask("/queues/pause", {"queue": "default", "for": ""}) == (
        503,
        {"error": "the database is away", "status": 503},
    )


@pytest.mark.parametrize("token", ["", "x", "ci", TOKEN[:-1], TOKEN + "x", f"ci:{TOKEN}", "ü" * 40])
def test_without_a_valid_token_nothing_is_shown_or_done(opened, token):
    for program in (opened(basic_auth=PASSWORDS), opened()):
        program.sent = {"Authorization": f"Bearer {token}".encode().decode("latin-1")}
        assert program.ask("/overview")[0] == 401
        assert program.ask("/queues/pause", {"queue": "default", "for": ""})[0] == 401
        assert program.site.ask("/overview", **program.sent).code == 401
        assert program.site.dashboard.source.driver.paused() == {}


def test_a_short_token_is_refused(opened):
    assert (
        opened(api_tokens=["ci:short"]).site.ask("/api/relevo", Authorization="Bearer short").code
        == 401
    )


@pytest.mark.parametrize(
    ("options", "acts"),
    [
        ({}, True),
        ({"operators": "ann"}, False),
        ({"operators": "ann,ci"}, True),
        ({"read_only": True}, False),
    ],
)
def test_a_program_may_do_what_a_user_of_its_name_may(opened, options, acts):
    program = opened(**options)
    assert program.get("/overview")["status"] == "Inactive"
    assert program.ask("/queues/pause", {"queue": "default", "for": ""})[0] == (
        200 if acts else 403
    )
    assert ("default" in program.site.dashboard.source.driver.paused()) is acts
    assert program.site.ask("/metrics/relevo", **program.sent).code == 200


def test_a_browser_with_a_password_needs_the_token_of_its_page_to_act(opened):
    site = opened(basic_auth=PASSWORDS).site.log_in(PASSWORDS[0])
    assert json.loads(site.get("/api/relevo/pauses")) == {"queues": [], "suspended": []}
    form = "queue=default&for="
    assert (
        "expected Authorization: Bearer" in site.ask("/api/relevo/queues/pause", "POST", form).body
    )
    assert site.ask("/api/relevo/queues/pause", "POST", form, X_XSRFToken=site.token()).code == 200
    assert (
        site.ask(
            "/api/relevo/queues/resume",
            "POST",
            form,
            X_XSRFToken=site.token(),
            Sec_Fetch_Site="cross-site",
        ).code
        == 403
    )
