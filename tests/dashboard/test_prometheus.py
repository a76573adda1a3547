"""/metrics/relevo: the metrics for Prometheus."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relevo import clock
from relevo.dashboard import prometheus
from relevo.drivers.contract import NewJob
from relevo.errors import DriverUnavailableError
from relevo.store import failed, metrics, outcomes
from relevo.store.counters import OPEN_SECONDS, Counters
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending
from tests.support.hostile_text import HOSTILE
from tests.support.workers import payload_of

LABELS = ("task", "queue", "part", "connection", "state", "le")
NOW = 1_700_000_000.0


@pytest.fixture
def end(source):
    def make(task="images.process", state=Ended.COMPLETED, ran=0.2, at=None, count=1):
        jobs = [
            EndedJob(
                f"{task[:20]}-{n}",
                task,
                "database",
                "default",
                state,
                1,
                at or clock.now(),
                1.5,
                ran,
            )
            for n in range(count)
        ]
        outcomes.write(source.store, [Ending(job) for job in jobs])

    return make


@pytest.fixture
def scrape(site, monkeypatch):
    """The present values, without the cache, by name and labels."""
    monkeypatch.setattr(prometheus, "CACHE_SECONDS", 0.0)

    def ask():
        families = text_string_to_metric_families(site.get("/metrics/relevo"))
        return {
            (
                sample.name,
                *(sample.labels[name] for name in LABELS if name in sample.labels),
            ): sample.value
            for each in families
            for sample in each.samples
        }

    return ask


def test_queues_are_gauges_and_jobs_are_counters_from_the_first_scrape(source, scrape, end):
    end(count=3)
    assert ("relevo_task_jobs_ended_total", "images.process", "completed") not in scrape()
    source.driver.put(
        [NewJob("default", payload_of("x", str(n), [], "default"), str(n)) for n in range(3)]
    )
    source.driver.reserve(["default"], 1, 30, "main@here")
    source.driver.pause("low")
    end(count=2)
    end(task=HOSTILE, state=Ended.FAILED, ran=70.0)
    told = scrape()
    assert told["relevo_queue_jobs", "default", "pending"] == 2
    assert told["relevo_queue_jobs", "default", "reserved"] == told["relevo_leases_held",] == 1
    assert told["relevo_queue_oldest_seconds", "default"] >= 0
    assert told["relevo_queues_paused",] == 1
    assert told["relevo_task_jobs_ended_total", "images.process", "completed"] == 2
    assert told["relevo_queue_jobs_ended_total", "default", "failed"] == 1
    assert told["relevo_task_run_seconds_bucket", "images.process", "0.1"] == 0
    assert told["relevo_task_run_seconds_bucket", "images.process", "0.316"] == 2
    assert told["relevo_task_run_seconds_sum", "images.process"] == pytest.approx(0.4)
    assert told["relevo_queue_wait_seconds_count", "default"] == 3
    assert told["relevo_task_run_seconds_bucket", HOSTILE, "31.6"] == 0
    assert told["relevo_task_run_seconds_bucket", HOSTILE, "+Inf"] == 1
    assert (
        told["relevo_workers",] == told["relevo_batches_open",] == told["relevo_failed_jobs",] == 0
    )
    assert told["relevo_up", "store"] == told["relevo_up", "broker"] == 1


def test_a_counter_only_grows_while_minutes_are_deleted_and_late_ones_added(source, end):
    totals = Counters(metrics.TASK)
    key = ("images.process", "completed", 0)
    assert totals.read(source.store, NOW)[key] == 0
    end(at=NOW, count=2)
    assert totals.read(source.store, NOW)[key] == 2
    assert totals.read(source.store, NOW + 2 * OPEN_SECONDS)[key] == 2
    metrics.prune(source.store, NOW + OPEN_SECONDS)
    end(at=NOW + 2 * OPEN_SECONDS)
    assert totals.read(source.store, NOW + 2 * OPEN_SECONDS + 60)[key] == 3
    assert totals.read(source.store, NOW + 9 * OPEN_SECONDS)[key] == 3


def test_names_after_the_first_hundred_share_a_series(scrape, end, monkeypatch):
    monkeypatch.setattr(prometheus, "MOST_NAMES", 2)
    scrape()
    for number in range(4):
        end(task=f"t{number}")
    told = scrape()
    tasks = {
        key[1]: value for key, value in told.items() if key[0] == "relevo_task_jobs_ended_total"
    }
    assert tasks == {"t0": 1, "t1": 1, "(other)": 2}


def test_an_unreachable_part_is_named_and_the_rest_is_shown(scrape, monkeypatch):
    def away(*_args, **_kwargs):
        raise DriverUnavailableError("away")

    monkeypatch.setattr(failed, "count_up_to", away)
    told = scrape()
    assert told["relevo_up", "store"] == 0
    assert told["relevo_up", "broker"] == 1
    assert ("relevo_queue_jobs", "default", "pending") in told


def test_it_has_the_access_control_of_the_pages(site):
    site.headers.clear()
    assert site.ask("/metrics/relevo").code == site.ask("/metrics").code == 401
