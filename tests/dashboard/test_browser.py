"""A real browser on a real dashboard: no page has an error, no hostile text runs, a click works."""

from __future__ import annotations

import pytest

from relevo import clock
from relevo.dashboard.pages import failed as failures
from relevo.drivers.contract import State
from relevo.store import failed, search
from relevo.store.failed import FailedJob
from tests.support.browser import chromium
from tests.support.dashboard_site import PASSWORDS
from tests.support.hostile_text import HOSTILE
from tests.support.workers import payload_of


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def hostile(source):
    """A failed job whose every text is hostile."""
    uuid = "00000000-0000-4000-8000-000000000000"
    job = FailedJob(
        uuid=uuid,
        queue=HOSTILE,
        connection="database",
        payload=payload_of(HOSTILE, uuid, [HOSTILE], "default"),
        exception=HOSTILE,
        message=HOSTILE * 50,
        failed_at=clock.now(),
        task=HOSTILE,
        tags=(HOSTILE,),
        attempts=1,
        errors=(
            {
                "attempt": 1,
                "exception": HOSTILE,
                "message": HOSTILE,
                "traceback": HOSTILE,
                "at": clock.now(),
            },
        ),
    )
    source.store.write(lambda connection: failed.record(connection, [job]))
    source.driver.pause(HOSTILE)
    return failed.find_by_uuid(source.store, uuid)


def test_a_failed_job_is_picked_and_retried_after_a_question_without_leaving_the_page(
    browser, site, source, hostile
):
    browser.log_in(PASSWORDS[0])
    browser.size(1280, 900)
    browser.open(f"http://127.0.0.1:{site.port}/failed")
    browser.run("window.sameDocument = true")
    browser.until("document.querySelector('[data-bulk]').hidden")
    browser.click("[data-pick]")
    browser.until("!document.querySelector('[data-bulk]').hidden")
    browser.click("button[formaction='/failed/forget'][data-ask^='Forget {picked}']")
    browser.until("document.querySelector('#rl-ask-text').innerText.includes('Forget 1 failed')")
    browser.click("dialog button[value=no]")
    browser.until("!document.querySelector('dialog').open")
    assert failed.count(source.store) == 1
    browser.click(f"button[form='retry-{hostile.id}']")
    browser.until("document.querySelector('#rl-notice').innerText.includes('1 job put back')")
    assert browser.run("window.sameDocument")
    assert len(source.driver.peek(HOSTILE, State.PENDING)) == 1


def test_an_open_page_shows_what_has_changed_and_keeps_what_the_reader_does(browser, site, source):
    browser.log_in(PASSWORDS[0])
    browser.open(f"http://127.0.0.1:{site.port}/pauses")
    browser.run("document.querySelector('input[list]').value = 'half a na'")
    source.driver.pause("default")
    browser.until("document.body.innerText.includes('it is resumed')")
    assert browser.run("document.querySelector('input[list]').value") == "half a na"


def test_a_search_without_a_hit_continues_by_itself(browser, site, source, hostile, monkeypatch):
    monkeypatch.setattr(search, "FAILED_WINDOW", 2)
    monkeypatch.setattr(failures, "SEARCH_SECONDS", -1.0)
    others = [
        FailedJob(
            uuid=f"{n}",
            queue="low",
            connection="database",
            payload="{}",
            exception="E",
            message="",
            failed_at=clock.now(),
            task="work",
        )
        for n in range(9)
    ]
    source.store.write(lambda connection: failed.record(connection, others))
    browser.log_in(PASSWORDS[0])
    browser.open(f"http://127.0.0.1:{site.port}/failed?q=onerror")
    browser.until(f"document.getElementById('failed-{hostile.id}')")
    assert "before=" in browser.run("location.search")
