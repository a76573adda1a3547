"""A real browser on a dashboard with real workers, on SQLite and on Redis with PostgreSQL: every
page, every action, and the pages while a server is unreachable.
"""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest

from relevo.dashboard import sources
from relevo.drivers.contract import State
from relevo.store import failed, history
from relevo.store.history import Ended
from tests.support import page_checks
from tests.support.browser import chromium
from tests.support.dashboard_site import PASSWORDS
from tests.support.hostile_text import HOSTILE
from tests.support.live_dashboard import live
from tests.support.waits import eventually

PAGES = (
    "overview",
    "jobs",
    "jobs?state=delayed",
    "jobs?state=running",
    "jobs?state=completed",
    "jobs?state=cancelled",
    "failed",
    "batches",
    "charts",
    "charts?by=queues&range=7d",
    "tags",
    "pauses",
    "limits",
    "schedule",
    f"schedule/entry?entry={quote(HOSTILE)}",
    "audit",
)
FLOWER_PAGES = ("workers", "worker/main@here", "tasks", "broker")
KINDS = (
    "overview",
    "jobs?state=delayed",
    "jobs?state=completed",
    "failed",
    "batches",
    "charts",
    "tags",
    "pauses",
    "limits",
    "schedule",
    f"schedule/entry?entry={quote(HOSTILE)}",
    "audit",
    "nothing",
)
BY_KEYBOARD = ("jobs?state=delayed", "pauses", "schedule", "worker/main@here")
#: Pages with tables and times, which used to move.
MOVING = ("overview", "jobs?state=delayed", "failed")
NARROW = 360
#: A fault in the tables of Flower's pages (DataTables), which Relevo doesn't change.
FLOWER_FAULT = "aria-valid-attr"


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(opened):
    """A browser that is logged in, on an empty page, without complaints."""
    opened.log_in(PASSWORDS[0])
    opened.open("about:blank")
    opened.complaints.clear()
    return opened


@pytest.fixture(scope="module", params=["sqlite", "redis and postgresql"])
def shop(request, tmp_path_factory):
    """The running shop: jobs in every state, with hostile names and arguments."""
    with live(request.param, request, tmp_path_factory.mktemp("live")) as opened:
        fill(opened)
        yield opened


def fill(shop) -> None:
    process, report, send, events = map(shop.task, ("images", "reports", "email", "events"))
    for _ in range(3):
        process.delay(HOSTILE, size={HOSTILE: [HOSTILE]})
        send.delay(HOSTILE)
        process.apply_async((HOSTILE,), countdown=3600)
    for _ in range(4):
        report.delay(HOSTILE)
    batch = (
        shop.shop.app.batch([process.s(HOSTILE), report.s(HOSTILE)])
        .name(HOSTILE)
        .allow_failures()
        .dispatch()
    )
    shop.shop.app.batch([events.s(HOSTILE), events.s(HOSTILE)]).name("held").dispatch()
    shop.source.driver.pause(HOSTILE)
    shop.until(
        lambda: (
            len(shop.source.driver.peek("default", State.RESERVED)) == 1
            and len(history.page(shop.source.store, Ended.COMPLETED)) >= 6
            and failed.count(shop.source.store) == 5
            and batch.refresh().finished
            and len(shop.source.driver.peek("default", State.DELAYED)) == 5
        )
    )


def paths(shop) -> list[str]:
    """The paths of all pages, with one job of each kind."""
    driver, store = shop.source.driver, shop.source.store
    jobs = [
        view.id
        for state in (State.RESERVED, State.DELAYED)
        for view in driver.peek("default", state, 1)
    ]
    ended, failure = (
        history.page(store, Ended.COMPLETED, limit=1)[0],
        failed.page(store, limit=1)[0],
    )
    batches = [batch.id for batch in shop.shop.app.batches.page()]
    return [
        *PAGES,
        *(f"job/{name}" for name in (*jobs, ended.uuid, failure.uuid, f"{failure.uuid}?edit=1")),
        *(f"batch/{name}" for name in batches),
        f"charts?name={quote(ended.task)}",
        f"failed?q={quote('args:onerror')}",
        f"jobs?state=completed&q={quote('task:images*')}",
    ]


def test_no_page_has_errors_runs_hostile_text_or_is_wider_than_a_phone(browser, shop):
    """On servers the pages are only requested: they are the same, but their queries differ."""
    if shop.wires:
        assert [
            path
            for path in (*paths(shop), *FLOWER_PAGES)
            if "data-trouble" in shop.site.get(f"/{path}")
        ] == []
        return
    browser.size(NARROW, 780, phone=True)
    for path in (*paths(shop), *FLOWER_PAGES):
        browser.open(f"{shop.url}/{path}")
        assert browser.run("document.title") != "pwned", path
        assert browser.run("document.querySelectorAll('img').length") == 0, path
        assert browser.run("document.querySelector('[data-trouble]') === null"), path
        assert (
            browser.run("document.documentElement.scrollWidth") <= NARROW or path in FLOWER_PAGES
        ), path
    assert browser.complaints == []


def test_pages_are_accessible_in_both_themes_by_mouse_and_by_keyboard(browser, shop):
    """One page of each kind: its contrast, labels, headings, and whether the focus is visible."""
    if shop.wires:
        return
    failure, batch = (
        failed.page(shop.source.store, limit=1)[0].uuid,
        shop.shop.app.batches.page()[-1].id,
    )
    browser.size(1280, 900)
    faults: list[str] = []
    for path in (*KINDS, f"job/{failure}?edit=1", f"batch/{batch}", *FLOWER_PAGES):
        browser.open(f"{shop.url}/{path}")
        found = page_checks.faults(browser)
        page_checks.dress(browser, "dark")
        found += [f"dark: {each}" for each in page_checks.faults(browser, only=("color-contrast",))]
        if path in BY_KEYBOARD:
            found += [f"the focus can't be seen: {each}" for each in page_checks.unseen(browser)]
        faults += [
            f"{path}: {each}"
            for each in found
            if path not in FLOWER_PAGES or FLOWER_FAULT not in each
        ]
    assert faults == [], "\n".join(faults)


@pytest.mark.parametrize("path", MOVING)
def test_nothing_moves_when_the_script_fetches_the_page_again(browser, shop, path):
    if shop.wires:
        return  # the pages are the same
    browser.size(1280, 900)
    found: list[list[str]] = []
    eventually(lambda: found.extend(movements(browser, f"{shop.url}/{path}")) or found)
    assert found == [[]]


@pytest.mark.parametrize("path", MOVING)
def test_nothing_moves_when_the_script_of_a_page_comes_late(browser, shop, path):
    """The page is painted only after its script has shortened the times, so no column moves."""
    if shop.wires:
        return  # the pages are the same
    browser.size(1280, 900)
    with browser.slow():
        browser.open(f"{shop.url}/{path}")
        browser.run(page_checks.SHIFTS)
        # The first of the two frames paints the page as the script has left it.
        browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert browser.run("window.shifts") == []


def movements(browser, url):
    """[the layout shifts], or [] if the rows have changed meanwhile: then something has to move."""
    rows = "[...document.querySelectorAll('tr[id]')].map(row => row.id).join()"
    browser.open(url)
    browser.run(page_checks.SHIFTS)
    before = browser.run(rows)
    browser.until("window.looks >= 2")
    return [browser.run("window.shifts")] if browser.run(rows) == before else []


def test_a_running_job_shows_its_progress(shop):
    shop.until(
        lambda: any(
            "25 %: 1 of 4" in shop.site.get(f"/job/{view.id}")
            for view in shop.source.driver.peek("default", State.RESERVED)
        )
    )


def do(browser, button: str, said: str, before: str = "") -> None:
    """Click a button, answer a question with yes, and wait for the notice with this text."""
    browser.run("document.querySelector('#rl-notice').replaceChildren()")
    browser.run(before)
    # A search may stop early and find the row only when the page is fetched again.
    browser.until(f"document.querySelector({json.dumps(button)})")
    browser.click(button)
    browser.run(
        "document.querySelector('#rl-ask').open"
        " && document.querySelector('#rl-ask [value=yes]').click()"
    )
    browser.until(f"document.querySelector('#rl-notice').innerText.includes({json.dumps(said)})")


def test_every_action_does_what_it_says(browser, shop):
    driver, store = shop.source.driver, shop.source.store
    browser.size(1280, 900)
    pick = "document.querySelector('[data-pick]').click()"

    def at(path: str) -> None:
        browser.open(f"{shop.url}/{path}")

    at("overview")
    do(browser, "#queue-default button[value='900']", "default is paused for 15 minutes")
    at("tags")
    do(
        browser,
        "form[action='/tags/watch'] button",
        "",
        "document.querySelector('[name=tag]').value = 'all'",
    )
    browser.until('document.querySelector(\'[id="tag-all"] form[action="/tags/unwatch"]\')')
    do(browser, "[id='tag-all'] form[action='/tags/unwatch'] button", "no longer watched")

    at("failed")
    first = failed.page(store, limit=9)
    do(browser, f"button[form='retry-{first[0].id}']", "1 job put back")
    do(browser, "[data-bulk] [formaction='/failed/retry']", "1 job put back", pick)
    do(browser, "[data-bulk] [formaction='/failed/forget']", "1 failed job forgotten", pick)
    at(f"job/{failed.page(store, limit=1)[0].uuid}?edit=1")
    do(
        browser,
        "#edit button",
        "Put back with the new arguments",
        "document.querySelector('#edit [name=args]').value = '[\"edited\"]'",
    )
    at("failed")
    do(browser, "button[name=all][formaction='/failed/retry']", "put back")
    assert failed.count(store) == 0

    at("jobs?state=delayed&q=task:images*")
    do(browser, "[formaction='/jobs/hasten']", "1 delayed job may run now", pick)
    do(browser, "[data-bulk] .danger", "1 job cancelled", pick)
    at("jobs?state=running")
    do(browser, "[formaction='/jobs/stop']", "1 job cancelled", pick)
    held = next(batch for batch in shop.shop.app.batches.page() if batch.name == "held")
    at(f"batch/{held.id}")
    do(browser, "form[action$='/cancel'] button", "held is cancelled")
    at("limits")
    do(
        browser,
        "#rate-mail button",
        "mail: 9/hour",
        "document.querySelector('[name=rate]').value = '9/hour'",
    )
    do(browser, "form[action='/limits/clear'] button", "is cleared")
    at("jobs?queue=default")
    do(browser, "[form='clear-form']", "of default deleted")
    assert driver.sizes("default").delayed == 0

    at("pauses")
    do(browser, "[id='pause-row-default'] form[action='/queues/resume'] button", "default goes on")
    do(
        browser,
        "form[action='/pauses/add'] button",
        "tag reports is paused for 15 minutes",
        "document.querySelector('[name=kind]').value = 'tag';"
        " document.querySelector('[name=name]').value = 'reports'",
    )
    do(browser, "form[action='/pauses/lift'] button", "tag reports goes on")
    task = shop.task("reports")
    other = shop.shop.app.batch([task.s(HOSTILE)]).name("again").allow_failures().dispatch()
    shop.until(lambda: other.refresh().finished)
    at(f"batch/{other.id}")
    do(browser, "form[action$='/retry'] button", "1 failed member put back")
    shop.until(lambda: failed.count(store) == 1)
    at("failed")
    do(browser, "button[name=all][formaction='/failed/forget']", "forgotten")
    assert browser.complaints == []


def test_all_waiting_jobs_of_a_search_are_run_cancelled_or_deleted_together(browser, shop):
    def at(path: str, **when: float) -> None:
        shop.task("images").apply_async((HOSTILE,), queue="low", **when)
        browser.open(f"{shop.url}/{path}")

    browser.size(1280, 900)
    at("jobs?state=delayed&q=queue:low+args:onerror", countdown=3600)
    do(browser, "[name=all][formaction='/jobs/hasten']", "1 delayed job may run now")
    at("jobs?state=pending&queue=low")
    do(browser, "[name=all].danger:not([formaction])", "2 jobs cancelled")
    at("jobs?state=pending&q=queue:low")
    do(browser, "[name=all][formaction='/jobs/delete']", "1 job deleted")
    assert browser.complaints == []


def test_every_action_is_in_the_audit_log(shop):
    log = shop.site.get("/audit")
    for action in (
        "pause queue",
        "resume queue",
        "add pause",
        "lift pause",
        "watch tag",
        "unwatch tag",
        "retry",
        "forget",
        "edit and retry",
        "run now",
        "cancel",
        "delete",
        "stop",
        "cancel batch",
        "clear limit",
        "set rate",
        "clear queue",
        "retry batch",
    ):
        assert f'<td data-label="Action">{action}</td>' in log, action


def test_an_entry_of_the_schedule_is_run_paused_and_resumed(browser, shop):
    browser.size(1280, 900)
    browser.open(f"{shop.url}/schedule")
    do(browser, "form[action='/schedule/run'] button", "runs as job")
    browser.until(
        "document.querySelector('.rl-table').innerText.includes('failed')"
    )  # as that task's jobs do
    do(browser, "form[action='/schedule/pause'] button[value='3600']", "is paused for 1 hour")
    browser.open(f"{shop.url}/schedule/entry?entry={quote(HOSTILE)}")
    do(browser, "form[action='/schedule/resume'] button", "goes on")
    assert browser.run("document.querySelectorAll('[id^=run-]').length") == 1
    assert browser.complaints == []
    log = shop.site.get("/audit")
    assert [
        action
        for action in ("run entry", "pause entry", "resume entry")
        if f">{action}</td>" not in log
    ] == []


def test_an_expired_token_is_an_error_and_nothing_is_done(browser, shop):
    browser.open(f"{shop.url}/pauses")
    browser.call("Network.clearBrowserCookies")
    # In one script: when the page is fetched again it gets a new token.
    browser.run("""(form => { form._xsrf.value = 'of yesterday'; form.elements.name.value = 'high';
                              form.querySelector('button').click(); })
                   (document.querySelector("form[action='/pauses/add']")); 0""")
    browser.until("document.querySelector('#rl-notice').innerText.includes('Reload the page')")
    assert "high" not in shop.source.driver.paused()


@pytest.mark.parametrize(
    ("wire", "named", "still"),
    [
        (
            "broker",
            "The broker",
            {
                "jobs?state=completed": 200,
                "failed": 200,
                "charts": 200,
                "tags": 200,
                "batches": 200,
            },
        ),
        ("store", "The store", {"jobs": 200, "pauses": 200, "limits": 200}),
    ],
)
def test_an_unreachable_server_is_named_until_it_is_back_and_the_rest_is_shown(
    browser, shop, wire, named, still
):
    if wire not in shop.wires:
        return  # one file is both, and always reachable
    shop.source.driver.sizes("default")
    try:
        shop.wires[wire].cut()
        shop.until(lambda: named in shop.site.get("/overview"))
        for path in (*PAGES, *FLOWER_PAGES):
            answer = shop.site.ask(f"/{path}")
            assert answer.code == still.get(path, answer.code), path
            assert answer.code in {200, 503}, path
            assert answer.code == 200 or named in answer.body, path
        browser.open(f"{shop.url}/overview")
        browser.until(f"document.querySelector('[role=alert]').innerText.includes('{named}')")
        assert shop.site.post("/queues/pause", queue="high", **{"for": ""}).code == 303
    finally:
        shop.wires[wire].plug()
    browser.until("document.querySelector('[role=alert]') === null")


def test_a_killed_worker_and_its_abandoned_job_are_shown(browser, shop, monkeypatch):
    driver = shop.source.driver
    job = shop.task("events").delay("killed")
    shop.until(lambda: any(view.id == job.id for view in driver.peek("default", State.RESERVED)))
    browser.open(f"{shop.url}/jobs?state=running")
    browser.until(f"document.getElementById('job-{job.id}')")
    shop.kill_worker()
    now = driver.now
    monkeypatch.setattr(driver, "now", lambda: now() + 90)  # a lease is 60 seconds
    browser.until(f"document.getElementById('job-{job.id}').innerText.includes('silent since')")
    said = [each["timestamp"] for each in shop.site.dashboard.workers.values()]
    shop.until(lambda: time.time() > max(said, default=0) + 1)
    monkeypatch.setattr(sources, "WORKER_GONE_SECONDS", 1.0)
    browser.open(f"{shop.url}/overview")
    browser.until("document.querySelector('#figures').innerText.includes('Inactive')")
    assert browser.complaints == []
