"""The schedule on the dashboard: its entries, their runs, and the actions on them."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from celery.schedules import crontab

from relevo import clock
from relevo.schedule import operations
from relevo.schedule.beat import Scheduler
from relevo.store import outcomes, schedules
from relevo.store.schedules import RunEnd
from tests.support.dashboard_site import PASSWORDS

NIGHTLY = "every <night>, a/b"
BACK = f"/schedule/entry?entry={quote(NIGHTLY)}"


@pytest.fixture
def app(app):
    app.conf.beat_schedule = {
        NIGHTLY: {
            "task": "images.process",
            "args": [7],
            "schedule": crontab(minute=7, hour=4),
            "catch_up": "all",
        },
        "often": {
            "task": "images.process",
            "args": [8],
            "schedule": 60,
            "options": {"queue": "low"},
        },
    }
    return app


def row(page: str, name: str) -> str:
    return page.partition(f'id="entry-{name}"')[2].partition("</tr>")[0]


def test_each_entry_is_shown_with_its_schedule_in_words_and_its_queue(site):
    page = site.get("/schedule")
    nightly = row(page, "every &lt;night&gt;, a/b")
    assert "At 04:07 (UTC)" in nightly
    assert "T04:07:00" in nightly
    assert "Every minute" in row(page, "often")
    assert "<bdi>low</bdi>" in row(page, "often")
    assert "No beat has been started yet" in page


def test_an_entry_is_run_now_and_its_job_is_a_click_away(site, app, source):
    page = site.act("/schedule/run", entry=NIGHTLY, back="/schedule")
    [run] = schedules.page(source.store)
    assert f"runs as job {run.job_id}" in page
    assert f"/job/{run.job_id}" in row(page, "every &lt;night&gt;, a/b")
    assert "pending" in row(page, "every &lt;night&gt;, a/b")
    assert "images.process" in site.get(f"/job/{run.job_id}")
    outcomes.write(source.store, [outcomes.Ending(run=RunEnd(run.job_id, "failed", clock.now()))])
    history = site.get(BACK)
    assert "every missed run, at most 100" in history
    assert 'rl-badge bad">failed' in history
    assert "<bdi>ann</bdi>" in history
    assert f"job {run.job_id}" in site.get("/audit?q=run+entry")


def test_an_entry_is_paused_for_every_beat_and_resumed(site, app, source):
    page = site.act("/schedule/pause", entry="often", back="/schedule", **{"for": "3600"})
    assert "often is paused for 1 hour" in page
    assert "Resume" in row(page, "often")
    assert schedules.read(source.store)["often"].is_paused(clock.now())
    assert "often goes on" in site.act("/schedule/resume", entry="often", back="/schedule")
    assert "often was not paused" in site.act("/schedule/resume", entry="often", back="/schedule")
    assert "until it is resumed" in site.act(
        "/schedule/pause", entry="often", back="/schedule", **{"for": ""}
    )


@pytest.mark.parametrize(
    ("path", "fields", "complaint"),
    [
        ("run", {"entry": "offen"}, "did you mean &#x27;often&#x27;"),
        (
            "pause",
            {"entry": "often", "for": "17"},
            "expected a pause of 900, 3600, 14400 s or none",
        ),
        ("resume", {"entry": "x" * 5000}, "no entry"),
        ("run", {}, "no entry"),
    ],
)
def test_an_action_that_fails_says_why(site, path, fields, complaint):
    assert complaint in site.act(f"/schedule/{path}", back="/schedule", **fields).replace(
        "&#39;", "&#x27;"
    )
    assert schedules.page(site.dashboard.source.store) == []


def test_readers_and_requests_without_a_token_do_nothing(site):
    assert site.ask("/schedule/run", "POST", "entry=often").code == 403
    site.options.operators = "ann"
    site.log_in(PASSWORDS[1])
    assert "Run now" not in site.get("/schedule")
    for path in ("run", "pause", "resume"):
        assert site.post(f"/schedule/{path}", entry="often", **{"for": ""}).code == 403
    assert schedules.page(site.dashboard.source.store) == []


def test_an_entry_whose_time_has_passed_without_a_beat_is_overdue(site, app, source):
    Scheduler(app).tick()
    assert "overdue" not in site.get("/schedule")
    source.store.write(lambda connection: schedules.advance(connection, "often", clock.now() - 600))
    page = site.get("/schedule")
    assert "no beat has come" in page
    assert "overdue" in row(page, "often")


def test_runs_are_paged_also_those_of_a_removed_entry(site, app, source):
    operations.run(app, "often", "ann")
    run = schedules.page(source.store)[0]
    for number in range(60):
        made = schedules.Run("often", f"tick {number}", run.due, run.at, f"job-{number}")
        source.store.write(lambda connection, made=made: schedules.record(connection, made))
    first = site.get("/schedule/entry?entry=often")
    assert first.count('<tr id="run-') == 50
    assert site.get("/schedule/entry?entry=often&before=12").count('<tr id="run-') == 11
    del app.conf.beat_schedule["often"]
    assert "not in beat_schedule any more" in site.get("/schedule/entry?entry=often")
    assert site.ask("/schedule/entry?entry=never").code == 404
    assert site.ask("/schedule/entry?entry=often&before=x").code == 400


def test_an_invalid_entry_is_named_and_an_empty_schedule_says_what_to_do(site, app):
    app.conf.beat_schedule["worse"] = {"task": "images.process", "schedule": "daily"}
    assert "No beat can start: entry &#39;worse&#39;" in site.get("/schedule").replace(
        "&#x27;", "&#39;"
    )
    app.conf.beat_schedule = {}
    assert "Nothing runs by the clock" in site.get("/schedule")
