"""A search finds the same on every database, by a scan of windows of any size or by an index."""

from __future__ import annotations

import pytest

from relevo.store import failed, outcomes, search, search_syntax, watched_tags
from relevo.store.failed import FailedJob, Filter
from relevo.store.history import Ended, EndedJob
from relevo.store.outcomes import Ending

HOUR = 3600.0


@pytest.fixture
def jobs(store, now, monkeypatch):
    """Jobs in the failed store and in history, an hour apart, two at one instant; small windows."""
    monkeypatch.setattr(search, "FAILED_WINDOW", 2)
    monkeypatch.setattr(search, "HISTORY_WINDOW", 2)
    jobs = [
        {
            "uuid": f"{'ab'[n % 2]}{n}",
            "task": "mail.send" if n < 6 else "work",
            "queue": "low" if n % 3 else "high",
            "message": f"wrong {n}",
            "tags": ("all", f"file:{n}") if n else ("all", "año:1"),
        }
        for n in range(9)
    ]
    ats = [1_000_000.0 - HOUR * (8 - n if n != 4 else 5) for n in range(9)]
    failures = [
        FailedJob(
            connection="database",
            payload="{}",
            exception="E",
            failed_at=at,
            arguments=f"({n},)",
            **each,
        )
        for n, (each, at) in enumerate(zip(jobs, ats, strict=True))
    ]
    store.write(
        lambda connection: failed.record(
            connection,
            [
                *failures,
                FailedJob(
                    uuid="gone",
                    task="work",
                    queue="low",
                    connection="database",
                    payload="{}",
                    exception="E",
                    message="",
                    failed_at=1_000_000.0,
                    retried_at=1.0,
                ),
            ],
        )
    )
    store.write(
        lambda connection: connection.execute(
            failed.failed.update().where(failed.failed.c.uuid == "gone").values(retried_at=1.0)
        )
    )
    ended = [
        EndedJob(
            connection="database",
            state=Ended.COMPLETED,
            attempts=1,
            ended_at=at,
            arguments=f"({n},)",
            **each,
        )
        for n, (each, at) in enumerate(zip(jobs, ats, strict=True))
    ]
    outcomes.write(store, [Ending(job) for job in ended])


def all_of(question, store, limit: int, seconds: float) -> list[int]:
    """The numbers of the jobs, page by page."""
    found, before = [], None
    while True:
        rows, further = question.page(store, before=before, limit=limit + 1, seconds=seconds)
        found += [int(row.uuid[1:]) for row in rows[:limit]]
        at = "failed_at" if question.table is failed.failed else "ended_at"
        before = (
            (getattr(rows[limit - 1], at), rows[limit - 1].id) if len(rows) > limit else further
        )
        if before is None:
            return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("task:work", [8, 7, 6]),
        ("task:mail.*", [5, 4, 3, 2, 1, 0]),
        ("queue:high", [6, 3, 0]),
        ("queue:high task:work", [6]),
        ("queue:none", []),
        ("tag:all", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("tag:file:3", [3]),
        ("tag:file:*", [8, 7, 6, 5, 4, 3, 2, 1]),
        ("tag:*:1", [1, 0]),
        ("tag:añ*", [0]),
        ("tag:*o*1", [0]),
        ("tag:all error:7", [7]),
        ("id:a4", [4]),
        ("id:b*", [7, 5, 3, 1]),
        ("id:*4", [4]),
        ("id:b* queue:high", [3]),
        ("args:(5,)", [5]),
        ('"wrong 8"', [8]),
        ("b3", [3]),
        ("nothing", []),
        ("since:3h", [8, 7, 6, 5]),
        ("until:3h", [4, 3, 2, 1, 0]),
        ("since:3h until:1h queue:low", [5]),
        ("since:1h task:mail.send", []),
    ],
)
@pytest.mark.parametrize("many", [2, 10_000])
def test_every_search_finds_the_same_by_windows_and_pages_of_any_size(
    store, jobs, monkeypatch, text, found, many
):
    monkeypatch.setattr(watched_tags, "MANY", many)
    typed = search_syntax.parse(text)
    questions = (
        search.failed_query(store, typed),
        search.history_query(store, typed, Ended.COMPLETED, False),
    )
    for question in questions:
        for limit, seconds in ((50, 60.0), (2, -1.0), (1, 60.0)):
            assert all_of(question, store, limit, seconds) == found
        assert question.count(store, most=100, seconds=60.0) == (len(found), True)
    assert len(failed.page(store, Filter(also=questions[0].conditions))) == len(found)


def test_a_count_says_whether_it_is_complete(store, jobs):
    question = search.failed_query(store, search_syntax.parse(""))
    assert question.count(store, most=5, seconds=60.0) == (5, False)
    assert question.count(store, most=100, seconds=-1.0)[1] is False
