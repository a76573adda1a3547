"""The failed store on every database: jobs are recorded once, found, listed, and forgotten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from relevo.store import failed, retry_claims
from relevo.store.failed import FailedJob, Filter
from relevo.store.tables import metadata


def job(uuid="a", **fields) -> FailedJob:
    defaults = {
        "queue": "default",
        "connection": "database",
        "payload": "{}",
        "exception": "ValueError",
        "message": "no",
    }
    return FailedJob(**{"uuid": uuid, "task": "process", "failed_at": 100.0, **defaults, **fields})


@pytest.fixture
def record(store):
    """Record failed jobs, and return their rows in the given order."""

    def record(*jobs):
        store.write(lambda connection: failed.record(connection, jobs))
        return [failed.find_by_uuid(store, each.uuid) for each in jobs]

    return record


def uuids(jobs):
    return [each.uuid for each in jobs]


def test_the_migrated_tables_are_those_of_the_code(store):
    with store.engine.connect() as connection:
        ours = {"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        options = {"compare_type": True, "compare_server_default": True} | ours
        assert (
            compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        )


def test_a_recorded_job_is_found_unchanged(store, record):
    recorded = job(
        tags=("file:7", "año"),
        attempts=3,
        batch="b",
        origin=5,
        errors=({"attempt": 1, "exception": "E", "message": "m", "traceback": "t", "at": 1.5},),
    )
    [row] = record(recorded)
    assert row.id > 0
    assert failed.find(store, row.id) == row
    assert {name: getattr(row, name) for name in FailedJob.__slots__ if name != "id"} == {
        name: getattr(recorded, name) for name in FailedJob.__slots__ if name != "id"
    }


def test_an_unknown_number_finds_nothing(store):
    assert failed.find(store, 123456) is None
    assert failed.find_by_uuid(store, "nobody") is None


def test_a_job_that_is_delivered_twice_is_recorded_once_and_its_retry_again(store, record):
    [first, _] = record(job(), job(message="second"))
    record(job(message="third"))
    assert [each.message for each in failed.page(store)] == ["no"]
    record(job(origin=first.id))
    assert failed.count(store) == 2


@pytest.mark.parametrize("text", ["\0", "\ud800", "☃" * 10, "'\"\\%"])
def test_every_text_can_be_stored(store, record, text):
    [row] = record(job(uuid="a" + text, payload=text, message=text, task=text * 300, tags=(text,)))
    assert row.message
    assert len(row.task) <= 255


def test_ten_megabytes_are_stored(store, record):
    [row] = record(job(payload="x" * 10_000_000))
    assert len(row.payload) == 10_000_000


def test_pages_go_from_the_newest_to_the_oldest(store, record):
    record(*(job(uuid=str(number)) for number in range(5)))
    first = failed.page(store, limit=2)
    second = failed.page(store, limit=2, before=first[-1].id)
    assert [uuids(first), uuids(second)] == [["4", "3"], ["2", "1"]]


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (Filter(queue="high"), ["b"]),
        (Filter(task="other"), ["c"]),
        (Filter(tag="file:7"), ["c", "a"]),
        (Filter(tag="FILE:7"), []),
        (Filter(since=101), ["c"]),
        (Filter(queue="default", tag="file:7", since=101), ["c"]),
        (Filter(ids=[]), []),
    ],
)
def test_a_page_can_be_filtered_by_queue_task_tag_or_time(store, record, which, found):
    record(
        job("a", tags=("file:7", "user:1")),
        job("b", queue="high"),
        job("c", task="other", tags=("file:7",), failed_at=101.0),
    )
    assert uuids(failed.page(store, which)) == found
    assert failed.count(store, which) == len(found)


def test_forget_deletes_the_filtered_jobs_and_their_tags(store, record):
    [a, _] = record(job("a", tags=("t",)), job("b", tags=("t",)))
    assert failed.forget(store, Filter(ids=[a.id])) == 1
    assert uuids(failed.page(store, Filter(tag="t"))) == ["b"]
    assert failed.forget(store, Filter(ids=[a.id])) == 0


def test_flush_deletes_all_jobs_or_the_older_ones(store, record, now):
    record(job("old", failed_at=1_000_000.0 - 7200), job("new", failed_at=1_000_000.0 - 1800))
    assert failed.flush(store, hours=1) == 1
    assert uuids(failed.page(store)) == ["new"]
    assert failed.flush(store) == 1
    assert failed.count(store) == 0


def test_prune_deletes_more_than_a_page(store, record, monkeypatch):
    monkeypatch.setattr(failed, "PAGE", 3)
    record(*(job(uuid=str(number), failed_at=float(number)) for number in range(10)))
    assert failed.prune(store, before=7) == 8
    assert uuids(failed.page(store)) == ["9", "8"]


def test_a_claimed_job_can_not_be_claimed_again(store, record):
    record(job("a"), job("b"))
    _, mine = retry_claims.claim(store, failed.EVERY_JOB, limit=1)
    _, theirs = retry_claims.claim(store, failed.EVERY_JOB)
    assert [uuids(mine), uuids(theirs)] == [["a"], ["b"]]


def test_a_job_marked_as_retried_is_no_longer_listed(store, record, now):
    [row] = record(job())
    name, _ = retry_claims.claim(store, failed.EVERY_JOB)
    retry_claims.mark_retried(store, name)
    assert failed.page(store) == []
    assert failed.find(store, row.id).retried_at == 1_000_000.0
    assert retry_claims.claim(store, failed.EVERY_JOB)[1] == []


def test_a_claim_that_is_given_up_frees_its_jobs(store, record):
    record(job())
    retry_claims.give_up(store, retry_claims.claim(store, failed.EVERY_JOB)[0])
    assert uuids(retry_claims.claim(store, failed.EVERY_JOB)[1]) == ["a"]


def test_the_claim_of_a_dead_process_ends(store, record, now):
    record(job())
    retry_claims.claim(store, failed.EVERY_JOB)
    now(1_000_000.0 + retry_claims.CLAIM_SECONDS - 1)
    assert retry_claims.claim(store, failed.EVERY_JOB)[1] == []
    now(1_000_000.0 + retry_claims.CLAIM_SECONDS + 1)
    assert uuids(retry_claims.claim(store, failed.EVERY_JOB)[1]) == ["a"]


def test_concurrent_claims_share_the_jobs(store, record):
    record(*(job(uuid=str(number)) for number in range(40)))
    with ThreadPoolExecutor(4) as pool:
        taken = list(
            pool.map(
                lambda _: uuids(retry_claims.claim(store, failed.EVERY_JOB, limit=10)[1]), range(12)
            )
        )
    everything = [each for part in taken for each in part]
    assert len(everything) == len(set(everything))
