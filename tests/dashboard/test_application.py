"""Access control, headers, routes and navigation of all pages, Flower's included."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from tests.support.dashboard_site import PASSWORDS, Site

PAGES = [
    "/overview",
    "/jobs",
    "/jobs?state=completed",
    "/failed",
    "/charts",
    "/tags",
    "/batches",
    "/limits",
    "/pauses",
    "/schedule",
    "/audit",
]
FLOWERS = ["/workers", "/tasks", "/broker", "/metrics"]


@pytest.fixture
def opened(app):
    """Makes dashboards of the app."""
    sites = []

    def make(**options):
        sites.append(Site(app, **options))
        return sites[-1]

    yield make
    for each in sites:
        each.close()


def test_with_a_password_set_nothing_is_shown_without_it(site):
    for credentials, code in ((None, 401), ("ann:wrong", 401), (PASSWORDS[1], 200)):
        site.headers.clear()
        if credentials:
            site.log_in(credentials)
        assert {path: site.ask(path).code for path in PAGES + FLOWERS} == dict.fromkeys(
            PAGES + FLOWERS, code
        )


def test_a_password_may_have_any_letters(opened):
    site = opened(basic_auth=["änn:grün"])
    assert site.log_in("änn:grün").ask("/overview").code == 200
    assert site.log_in("änn:rot").ask("/workers").code == 401


def test_every_page_forbids_the_browser_content_of_other_hosts(site):
    for path in PAGES + FLOWERS:
        headers = site.ask(path).headers
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'none'; script-src 'self'"
        ), path
        assert not re.search(
            "script-src [^;]*(unsafe|http|\\*)", headers["Content-Security-Policy"]
        ), path
        assert headers["X-Frame-Options"] == "DENY", path
        assert "Access-Control-Allow-Origin" not in headers, path


def test_a_page_has_no_script_or_style_of_its_own_and_loads_nothing_from_another_host(site):
    for page in map(site.get, PAGES):
        assert not re.search(
            r"<style|\sstyle=|\son[a-z]+=|<script(?! src=)|(?:src|href)=\"(?:https?:)?//", page
        )


def test_without_a_password_users_may_look_and_not_act(opened, app):
    site = opened()
    assert "View only" in site.get("/overview")
    assert 'action="/queues/pause"' not in site.get("/pauses")
    assert site.post("/queues/pause", queue="default", **{"for": ""}).code == 403
    assert site.dashboard.source.driver.paused() == {}


def test_without_a_password_a_foreign_host_name_is_refused(opened):
    site = opened()
    assert site.ask("/overview", Host="evil.example").code == 403
    assert site.ask("/workers", Host="evil.example").code == 403
    for name in ("localhost:5555", "127.0.0.1", "[::1]:5555", "192.168.1.5:80"):
        assert site.ask("/overview", Host=name).code == 200


@pytest.mark.parametrize(
    ("operators", "acts"), [("", True), ("ann, carl", True), ("bob", False), ("*", True)]
)
def test_only_named_operators_may_act(opened, operators, acts):
    site = opened(basic_auth=PASSWORDS, operators=operators).log_in(PASSWORDS[0])
    token = site.cookies.get("_xsrf") or (site.get("/overview") and site.cookies["_xsrf"])
    body = f"_xsrf={token}&queue=default&for=900"
    assert site.ask("/queues/pause", "POST", body).code == (303 if acts else 403)
    assert ("default" in site.dashboard.source.driver.paused()) is acts
    flowers = site.ask("/api/task/revoke/1", "POST", "", Sec_Fetch_Site="same-origin").code
    assert flowers == (200 if acts else 403)


def test_a_reader_sees_flowers_live_events_and_reading_by_post_is_no_action(opened):
    site = opened(basic_auth=PASSWORDS, operators="bob").log_in(PASSWORDS[0])
    form = urlencode(
        {
            "_xsrf": site.token(),
            "draw": 1,
            "start": 0,
            "length": 10,
            "search[value]": "",
            "order[0][column]": 0,
            "columns[0][data]": "name",
            "order[0][dir]": "asc",
        }
    )
    assert site.ask("/tasks/datatable", "POST", form).code == 200
    assert "datatable" not in site.get("/audit")


def test_a_missing_page_is_an_error_page_of_relevo(site):
    for path in ("/nothing", "/jobs/nothing", "/statics"):
        answer = site.ask(path)
        assert (answer.code, "<h1>Nothing here</h1>" in answer.body) == (404, True), path
    site.headers.clear()
    assert site.ask("/nothing").code == 401
    assert site.ask("/healthcheck").code == 200


def test_no_user_may_act_when_it_is_read_only(opened):
    site = opened(basic_auth=PASSWORDS, read_only=True).log_in(PASSWORDS[0])
    site.get("/overview")
    body = f"_xsrf={site.cookies['_xsrf']}&queue=default&for="
    assert site.ask("/queues/pause", "POST", body).code == 403


def test_every_user_may_act_when_the_operators_are_a_star(opened):
    site = opened(operators="*")
    assert "default is paused" in site.act(
        "/queues/pause", queue="default", back="/pauses", **{"for": ""}
    )


def test_an_action_without_its_token_or_from_another_site_is_refused(site):
    form = "queue=default&for="
    assert site.ask("/queues/pause", "POST", form).code == 403
    assert site.ask("/queues/pause", "POST", f"{form}&_xsrf=nonsense").code == 403
    assert (
        site.ask(
            "/queues/pause", "POST", f"{form}&_xsrf={site.token()}", Sec_Fetch_Site="cross-site"
        ).code
        == 403
    )
    assert site.dashboard.source.driver.paused() == {}
    assert site.post("/queues/pause", queue="default", **{"for": ""}).code == 303


def test_the_pause_of_a_task_is_shown_and_lifted(site):
    driver = site.dashboard.source.driver
    driver.suspend("task:mail.<send>")
    page = site.get("/pauses")
    assert "task <bdi>mail.&lt;send&gt;</bdi>" in page
    assert "goes on" in site.act("/pauses/lift", what="task:mail.<send>", back="/pauses")
    assert driver.suspended() == {}
    assert "expected something that is paused" in site.act(
        "/pauses/lift", what="task:mail.<send>", back="/pauses"
    )


def test_a_queue_a_task_and_a_tag_are_paused_by_the_form(site):
    driver = site.dashboard.source.driver
    page = site.act(
        "/pauses/add", kind="task", name="images.process", back="/pauses", **{"for": "900"}
    )
    assert "task images.process is paused for 15 minutes." in page
    assert "task <bdi>images.process</bdi>" in page
    site.act("/pauses/add", kind="tag", name="<user>:7", **{"for": ""})
    site.act("/pauses/add", kind="queue", name="low", **{"for": ""})
    assert (set(driver.suspended()), set(driver.paused())) == (
        {"task:images.process", "tag:<user>:7"},
        {"low"},
    )
    assert driver.suspended()["tag:<user>:7"] is None
    for kind, name, said in (
        ("task", "images.proces", "did you mean"),
        ("job", "x", "expected one of queue, task"),
        ("tag", " ", "expected the name of a tag"),
        ("queue", "x" * 256, "255 characters"),
    ):
        assert said in site.act("/pauses/add", kind=kind, name=name, **{"for": ""}), (kind, name)
    assert len(driver.suspended()) == 2


def test_an_action_is_refused_as_a_get(site):
    assert site.ask("/queues/pause?queue=default&for=").code == 405


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:1",
        "",
        "/overview\r\nX: y",
    ],
)
def test_an_action_redirects_only_to_pages_of_the_dashboard(site, back):
    answer = site.post("/queues/pause", queue="default", back=back, **{"for": ""})
    assert answer.headers["Location"] == "/overview"


def test_every_page_works_below_a_prefix(opened, app):
    site = opened(url_prefix="jobs", basic_auth=PASSWORDS).log_in(PASSWORDS[0])
    for path in PAGES + FLOWERS:
        page = site.get(path)
        assert all(
            link.startswith("/jobs/")
            for link in re.findall(r'(?:href|action|src)="(/[^"]*)"', page)
        )
    assert site.ask("/").headers["Location"] == "/jobs/overview"
    assert (
        site.post("/queues/pause", queue="low", **{"for": ""}).headers["Location"]
        == "/jobs/overview"
    )


def test_relevos_and_flowers_files_are_served_and_no_others(site):
    assert site.ask("/static/relevo/relevo.js").code == 200
    assert site.ask("/static/js/flower.js").code == 200
    for path in (
        "relevo/../../server.py",
        "relevo/%2e%2e/%2e%2e/server.py",
        "relevo/nothing.js",
        "/etc/passwd",
    ):
        assert site.ask(f"/static/{path}").code in {403, 404}


def test_there_are_at_most_eight_tabs_and_flowers_pages_have_them_too(site):
    for path in ("/overview", "/workers"):
        tabs = site.get(path).partition('class="rl-tabs"')[2].partition("<details")[0]
        assert 2 <= tabs.count("<a ") <= 8


def test_the_notice_stays_for_the_reader_when_the_script_fetches_the_page(site):
    answer = site.post("/queues/pause", queue="default", **{"for": ""})
    path = answer.headers["Location"]
    assert "default is paused" not in site.ask(path, X_Relevo_Live="1").body
    assert "default is paused" in site.get(path)
    assert "rl-notice" not in site.get(path).partition('id="rl-notice"')[2].partition("</div>")[0]


def test_actions_of_flower_are_in_the_audit_log(site, source):
    site.ask("/api/task/revoke/some-id", "POST", "")
    assert "/api/task/revoke/some-id" in site.get("/audit")
    assert "ann" in site.get("/audit")


def test_every_action_is_in_the_audit_log_with_its_user_and_outcome(site):
    site.act("/queues/pause", queue="default", **{"for": "900"})
    site.log_in(PASSWORDS[1]).act("/queues/pause", queue="low", **{"for": "17"})
    page = site.get("/audit")
    assert "default is paused for 15 minutes." in page
    assert "not done: expected a pause of" in page
    assert "bob" in page
    assert "default is paused" not in site.get("/audit?q=bob")
    assert "Nothing fits" in site.get("/audit?q=%25")
