"""Metrics and tags on the dashboard, and the figures and charts of the overview."""

from __future__ import annotations

import re

import pytest

from relevo import clock
from relevo.dashboard import charts, formatting
from relevo.dashboard.charts import Series, Slots
from relevo.drivers.contract import NewJob
from relevo.store import failed, outcomes
from relevo.store.failed import FailedJob
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending
from tests.support.dashboard_site import PASSWORDS, Site
from tests.support.workers import payload_of


@pytest.fixture
def ended(source):
    """Record the end of jobs, all in one transaction."""

    def make(
        count=1,
        task="images.process",
        queue="default",
        state=Ended.COMPLETED,
        tags=(),
        ran=0.2,
        ago=90,
    ):
        jobs = [
            EndedJob(
                f"{task}-{queue}-{state}-{number}",
                task,
                "database",
                queue,
                state,
                1,
                clock.now() - ago,
                1.0,
                ran,
                tags,
            )
            for number in range(count)
        ]
        outcomes.write(source.store, [Ending(job) for job in jobs])

    return make


def figure(page: str, name: str) -> str:
    return re.sub(
        r"<[^>]+>", "", page.partition(f"<h2>{name}</h2>")[2].partition("</p>")[0]
    ).strip()


def test_the_overview_shows_the_load_of_queues_and_workers(app, source, ended):
    ended(10)
    ended(2, task="slow.report", queue="low", ran=30.0)
    failure = FailedJob(
        uuid="f",
        queue="low",
        connection="database",
        payload="",
        exception="E",
        message="",
        failed_at=clock.now(),
    )
    source.store.write(lambda connection: failed.record(connection, [failure]))
    source.driver.put(
        [NewJob("low", payload_of("slow.report", str(n), [], "low"), str(n)) for n in range(4)]
    )
    crew = {
        "main@web": {
            "timestamp": clock.now(),
            "active_queues": [{"name": "low"}],
            "stats": {"pool": {"max-concurrency": 2}, "pid": 7, "total": {"x": 3}},
        }
    }
    site = Site(app, workers=crew, basic_auth=PASSWORDS).log_in(PASSWORDS[0])
    page = site.get("/overview")
    site.close()
    assert figure(page, "Status") == "Active"
    assert figure(page, "Jobs past hour") == "12"
    assert figure(page, "Failed past 7 days") == "1"
    assert figure(page, "Jobs per minute") == "2.4"
    assert "slow.report, p95" in page
    row = page.partition('id="queue-low"')[2].partition("</tr>")[0]
    assert ">4</td>" in row
    assert ">1 min</td>" in row  # four of thirty seconds, two at a time
    assert "main@web" in page


def test_without_workers_the_status_is_inactive_with_a_hint(site):
    page = site.get("/overview")
    assert figure(page, "Status") == "Inactive"
    assert "celery -A tasks worker" in page


@pytest.mark.parametrize("chosen", ["1h", "24h", "7d"])
def test_every_range_has_its_charts(site, ended, chosen):
    ended(3)
    for path in (f"/overview?range={chosen}", f"/charts?range={chosen}&by=queues&name=default"):
        page = site.get(path)
        assert page.count("<svg viewBox") - page.count('aria-hidden="true"><rect') >= 3
        assert "Throughput. completed: at most" in page
    assert (
        site.ask("/overview?range=nonsense").code == site.ask("/charts?range=nonsense").code == 400
    )


def test_metrics_have_percentiles_and_the_share_that_failed(site, ended):
    ended(98)
    ended(2, state=Ended.FAILED)
    ended(5, task="email.send", ran=3.0)
    page = site.get("/charts")
    row = page.partition('id="metric-images.process"')[2].partition("</tr>")[0]
    assert ">100</td>" in row
    assert "2.0 %" in row
    assert re.search(r'data-label="Run p95">2\d\d ms<', row)
    names = re.findall(r'<tr id="metric-([^"]*)"', page)
    assert names == ["images.process", "email.send"]
    assert re.findall(r'<tr id="metric-([^"]*)"', site.get("/charts?sort=run")) == [
        "email.send",
        "images.process",
    ]


def test_a_tag_is_watched_with_its_jobs_and_unwatched(site, ended):
    ended(3, tags=("user:7", "b"))
    assert "No tag is watched" in site.get("/tags")
    page = site.act("/tags/watch", tag="user:7", back="/tags")
    watched = page.partition("<h2>Watched</h2>")[2].partition("</table>")[0]
    assert 'id="tag-user:7"' in watched
    assert 'data-label="Jobs">3</td>' in watched
    site.act("/tags/watch", tag="user:7")
    assert "No tag is watched" in site.act("/tags/unwatch", tag="user:7", back="/tags")
    assert "Not done: expected a tag" in site.act("/tags/watch", tag=" ")


TIME = Slots((0, 60, 120, 180), 60)


def test_a_chart_has_a_summary_for_screen_readers():
    drawn = charts.lines("Run time", TIME, [Series("p50", "p50", [None, 0.5, 2.0, None])])
    assert 'aria-label="Run time. p50: at most 2 s, last 2 s"' in drawn
    assert list(re.findall('data-tip="([^"]*)"', drawn)) == [
        "no jobs",
        "p50 500 ms",
        "p50 2 s",
        "no jobs",
    ]


def test_a_line_has_gaps_and_a_lone_value_is_visible():
    drawn = charts.lines("t", TIME, [Series("p50", "p50", [1.0, None, 1.0, 1.0])])
    assert re.search(r'class="rl-line p50" d="M2 0.00h6M25 0.00L35 0.00"', drawn)


def test_a_chart_without_values_is_empty():
    assert "completed: at most 0" in charts.bars(
        "t", TIME, [Series("completed", "good", [0.0] * 4)], ""
    )
    assert "p50: nothing" in charts.lines("t", TIME, [Series("p50", "p50", [None] * 4)])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "\u2013"),
        (0, "0 ms"),
        (0.0004, "< 1 ms"),
        (0.25, "250 ms"),
        (3.456, "3.46 s"),
        (59.99, "60 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90_000, "1 d 1 h"),
        (3599.9, "60 min"),
    ],
)
def test_durations_have_two_units_at_most(value, said):
    assert formatting.seconds(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (1234567, "1,234,567"), (2.44, "2.4"), (123.4, "123")]
)
def test_numbers_are_grouped(value, said):
    assert formatting.number(value) == said


def test_characters_that_reverse_text_are_shown():
    assert "\u202e" not in formatting.cut("\u202etxt.exe")
    assert formatting.cut("x" * 30, 10) == "xxxxxxxxxx … and 20 more characters"
    assert "9999-12-31 23:59:59 UTC" in formatting.when(1e300)
