"""The audit log, sums of metrics, and watched tags, on every database."""

from __future__ import annotations

import pytest

from relevo.store import (
    audit,
    history,
    metric_rollups,
    metrics,
    outcomes,
    search_syntax,
    watched_tags,
)
from relevo.store.audit import AuditEntry
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending


def ended(at, queue="default", task="work", state=Ended.COMPLETED, ran=1.0):
    return EndedJob("id", task, "database", queue, state, 1, at, 0.5, ran)


def test_an_action_is_recorded_before_it_is_done_and_gets_its_outcome_afterwards(store, now):
    number = audit.record(store, AuditEntry("ann", "retry", "3 jobs"))
    assert audit.page(store) == [AuditEntry("ann", "retry", "3 jobs", "", 1_000_000.0, number)]
    audit.complete(store, number, "2 jobs put back")
    assert audit.page(store)[0].outcome == "2 jobs put back"


def test_actions_are_listed_newest_first_and_found_by_any_of_their_words(store):
    for who, target in (("ann", "100%"), ("bob", "a_b"), ("ann", "<b>\x00\ud800 ünï")):
        audit.record(store, AuditEntry(who, "retry", target))
    listed = audit.page(store)
    assert [entry.who for entry in listed] == ["ann", "bob", "ann"]
    assert audit.page(store, before=listed[0].id) == listed[1:]
    assert [entry.target for entry in audit.page(store, "%")] == ["100%"]
    assert [entry.target for entry in audit.page(store, "_")] == ["a_b"]
    assert [entry.who for entry in audit.page(store, "BOB")] == ["bob"]


@pytest.fixture
def counted(store):
    """Two queues in three minutes."""
    jobs = [ended(60), ended(61, ran=100.0), ended(130, "mail"), ended(200, state=Ended.FAILED)]
    store.write(metrics.prepare(jobs))
    return store


def test_minutes_are_added_up_in_slots_over_all_queues(counted):
    first, second = metric_rollups.slots(counted, metrics.QUEUE, 0, 360, 180)
    assert (first.minute, first.ended, sum(first.ran.values())) == (0, {Ended.COMPLETED: 3}, 3)
    assert (second.minute, second.ended) == (180, {Ended.FAILED: 1})
    assert first.seconds == {"waited": 1.5, "ran": 102.0}


def test_slots_can_be_of_one_queue_and_cover_only_the_time_asked_for(counted):
    (point,) = metric_rollups.slots(counted, metrics.QUEUE, 0, 360, 60, "mail")
    assert point.ended == {Ended.COMPLETED: 1}
    assert metric_rollups.slots(counted, metrics.QUEUE, 240, 360, 60) == []
    assert metric_rollups.slots(counted, metrics.TASK, 0, 360, 60, "mail") == []


def test_totals_add_up_a_whole_time_by_name(counted):
    found = {
        point.name: point.ended for point in metric_rollups.totals(counted, metrics.QUEUE, 60, 360)
    }
    assert found == {"default": {Ended.COMPLETED: 2, Ended.FAILED: 1}, "mail": {Ended.COMPLETED: 1}}


def test_jobs_are_found_by_a_rare_tag_and_by_a_common_one(store, monkeypatch):
    monkeypatch.setattr(watched_tags, "MANY", 3)
    jobs = [
        EndedJob(
            f"j{n}",
            "work",
            "database",
            "default",
            Ended.COMPLETED,
            1,
            100.0 + n,
            tags=("all", "few") if n < 2 else ("all",),
        )
        for n in range(5)
    ]
    outcomes.write(store, [Ending(job) for job in jobs])
    assert watched_tags.count_jobs(store, ["all", "few", "none"]) == {"all": 3, "few": 2, "none": 0}
    for text, found in (
        ("tag:all", 5),
        ("tag:few", 2),
        ("tag:all tag:few", 2),
        ("tag:none", 0),
        ("tag:all j4", 1),
    ):
        typed = search_syntax.parse(text)
        common = watched_tags.find_common(store, [value for _, value in typed.terms])
        assert (
            len(
                history.page(
                    store, Ended.COMPLETED, also=search_syntax.history_conditions(typed, common)
                )
            )
            == found
        ), text


def test_a_tag_is_watched_once(store):
    for tag in ("b", "a", "b"):
        watched_tags.watch(store, tag)
    assert watched_tags.list_all(store) == ["a", "b"]
    assert (watched_tags.unwatch(store, "b"), watched_tags.unwatch(store, "b")) == (1, 0)
