"""History and metrics on every database: the last end of a job, counts per minute, retention."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.store import failed, histograms, history, metrics, outcomes
from relevo.store.failed import FailedJob
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending, Retention


def job(uuid="a", **fields) -> EndedJob:
    defaults = {
        "task": "process",
        "connection": "database",
        "queue": "default",
        "state": Ended.COMPLETED,
        "attempts": 1,
    }
    return EndedJob(**{"uuid": uuid, "ended_at": 1_000_000.0, **defaults, **fields})


def write(store, *jobs, **options):
    outcomes.write(store, [Ending(each, **options) for each in jobs])


def uuids(jobs):
    return [each.uuid for each in jobs]


def test_a_recorded_job_is_found_unchanged(store):
    recorded = job(
        waited=0.5, ran=0.25, tags=("t", "año"), arguments="(7,) {}", message="m", attempts=3
    )
    write(store, recorded)
    found = history.find(store, "a")
    assert {name: getattr(found, name) for name in EndedJob.__slots__ if name != "id"} == {
        name: getattr(recorded, name) for name in EndedJob.__slots__ if name != "id"
    }
    assert history.find(store, "nobody") is None


def test_a_job_has_one_row_that_of_its_last_end(store):
    write(store, job(state=Ended.FAILED, message="no"))
    write(store, job(), job(state=Ended.CANCELLED))
    assert history.find(store, "a").state is Ended.CANCELLED
    assert history.page(store, Ended.FAILED) == []


def test_pages_go_from_the_newest_to_the_oldest_also_within_one_instant(store):
    write(store, *(job(str(number), ended_at=float(number // 2)) for number in range(6)))
    seen, last = [], None
    while page := history.page(store, Ended.COMPLETED, before=last, limit=2):
        seen, last = seen + uuids(page), page[-1]
    assert seen == ["5", "4", "3", "2", "1", "0"]


def test_jobs_are_found_by_their_tags(store):
    write(store, job("a", tags=("x",)), job("b", tags=("x", "y")), job("c"))
    assert sorted(uuids(history.page(store, Ended.COMPLETED, tag="x"))) == ["a", "b"]
    assert history.page(store, Ended.COMPLETED, tag="X") == []


def test_a_job_that_is_only_counted_is_not_listed(store):
    write(store, job(), listed=False)
    assert history.find(store, "a") is None
    assert len(metrics.read(store, metrics.TASK, 0, 2_000_000)) == 1


def test_minutes_add_up_per_task_and_per_queue(store):
    write(store, job("a", waited=0.01, ran=1.0), job("b", queue="high", waited=10.0, ran=1.0))
    write(store, job("c", state=Ended.FAILED, ran=100.0), job("d", ended_at=1_000_060.0))
    first, second = metrics.read(store, metrics.TASK, 0, 2_000_000)
    assert (first.minute, second.minute) == (999_960, 1_000_020)
    assert (first.ended, second.ended) == (
        {Ended.COMPLETED: 2, Ended.FAILED: 1},
        {Ended.COMPLETED: 1},
    )
    assert (first.seconds["ran"], sum(first.ran.values())) == (pytest.approx(102), 3)
    by_queue = {
        (each.name, each.minute): each.ended
        for each in metrics.read(store, metrics.QUEUE, 0, 1_000_000)
    }
    assert by_queue == {
        ("default", 999_960): {Ended.COMPLETED: 1, Ended.FAILED: 1},
        ("high", 999_960): {Ended.COMPLETED: 1},
    }
    assert metrics.read(store, metrics.TASK, 0, 2_000_000, name="other") == []
    assert sum(metrics.merge_histograms([first, second], metrics.WAITED).values()) == 2


def test_workers_add_to_the_same_rows_at_the_same_time(store):
    def work(worker):
        for group in range(5):
            write(
                store,
                *(job(f"{worker}-{group}-{n}", task=f"t{n % 3}", ran=0.1 * n) for n in range(9)),
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    points = metrics.read(store, metrics.TASK, 0, 2_000_000)
    assert {point.name: point.ended[Ended.COMPLETED] for point in points} == {
        "t0": 60,
        "t1": 60,
        "t2": 60,
    }


def test_each_kind_of_record_is_kept_for_its_retention(store, now):
    old = 1_000_000.0 - 7200
    write(
        store,
        job("done", ended_at=old, tags=("x",)),
        job("failed", ended_at=old, state=Ended.FAILED),
        job("cancelled", ended_at=old, state=Ended.CANCELLED),
        job("new", tags=("x",)),
    )
    outcomes.prune(store, Retention(completed=3600, failed=86_400, metrics=3600))
    assert [
        history.find(store, uuid) is not None for uuid in ("done", "cancelled", "failed", "new")
    ] == [
        False,
        False,
        True,
        True,
    ]
    assert [point.minute for point in metrics.read(store, metrics.TASK, 0, 2_000_000)] == [999_960]
    assert uuids(history.page(store, Ended.COMPLETED, tag="x")) == ["new"]


def test_the_failed_store_and_its_tags_outlive_history(store, now):
    failure = FailedJob(
        uuid="a",
        task="process",
        queue="default",
        connection="database",
        payload="{}",
        exception="E",
        message="",
        failed_at=1.0,
        tags=("x",),
    )
    outcomes.write(store, [Ending(job(state=Ended.FAILED, ended_at=1.0, tags=("x",)), failure)])
    outcomes.prune(store, Retention(completed=1, failed=1, metrics=1))
    assert history.find(store, "a") is None
    assert failed.count(store, failed.Filter(tag="x")) == 1


@given(st.floats(0, 10**6))
def test_the_middle_of_a_bucket_stands_for_its_durations(seconds):
    number = histograms.bucket(seconds)
    assert 0 <= number <= histograms.LAST_BUCKET
    if histograms.SHORTEST_SECONDS <= seconds < 80_000:
        assert seconds / 1.16 <= histograms.middle(number) <= seconds * 1.16


@given(st.lists(st.floats(0.001, 50_000), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_right_within_a_sixth(durations, share):
    counts: dict[int, int] = {}
    for seconds in durations:
        counts[histograms.bucket(seconds)] = counts.get(histograms.bucket(seconds), 0) + 1
    found = histograms.percentile(counts, share)
    enough = [seconds for seconds in sorted(durations) if seconds <= found * 1.17]
    assert len(enough) >= share * len(durations)


def test_an_empty_histogram_has_no_percentile():
    assert histograms.percentile({}, 0.5) is None
