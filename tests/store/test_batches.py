"""Batches on every database: counted members, pages, and the end of silent dispatches."""

from __future__ import annotations

import pytest

from relevo.store import batch_heartbeats, batches, outbox
from relevo.store.batch_counts import Kind, Tally
from relevo.store.batches import BatchRow, MemberEnd
from relevo.store.outbox import Sending

CALL = Sending(connection="redis", queue="q", uuid="b.finally", payload="{}").as_json()


def opened(store, id_="b", kind=Kind.BATCH, total=3, streams=0, at=1_000_000.0):
    row = BatchRow(
        id=id_,
        name=id_,
        connection="redis",
        queue=None,
        callbacks={"finally": [CALL]},
        created_at=at,
        tally=Tally(kind=kind, total=total, streams=streams, allow_failures=True),
    )
    store.write(lambda connection: batches.create(connection, row))


def end(store, *ends):
    store.write(
        batches.prepare_ends(
            [MemberEnd("b", number, state, uuid) for number, state, uuid in ends], outbox.add
        )
    )


def counts(store):
    found = batches.find(store, "b").tally
    return (
        found.total,
        found.completed,
        found.failed,
        found.cancelled,
        found.finished_at is not None,
    )


@pytest.mark.parametrize("kind", [Kind.BATCH, Kind.CHORD])
def test_each_member_counts_once_however_often_and_in_whatever_order_it_ends(store, now, kind):
    opened(store, kind=kind)
    end(store, (0, "completed", "x"), (1, "failed", "y"), (0, "completed", "x"))
    end(store, (1, "failed", "y"), (0, "failed", "x"))
    assert counts(store) == (3, 1, 1, 0, False)
    end(store, (2, "cancelled", "z"), (1, "completed", "y"))
    assert counts(store) == (3, 2, 0, 1, True)
    end(store, (2, "completed", "z"))
    assert counts(store) == (3, 3, 0, 0, True)
    # One callback when all have ended; for a chord a second one, when all have completed.
    assert [backlog.jobs for backlog in outbox.status(store)] == [1 if kind is Kind.BATCH else 2]


def test_chord_members_that_ask_for_the_same_place_are_known_by_their_jobs(store, now):
    opened(store, kind=Kind.CHORD, total=4)
    end(store, (0, "completed", "x"), (0, "completed", "y"))
    end(store, (0, "completed", "z"), (1, "completed", "w"), (0, "completed", "y"))
    assert counts(store) == (4, 4, 0, 0, True)
    placed = {each.uuid: each.member for each in batches.ended_members(store, "b")}
    assert (placed["x"], placed["w"]) == (0, 1)
    assert len(set(placed.values())) == 4


def test_pages_lose_no_batch_created_at_the_same_instant(store, now):
    names = [f"b{number}" for number in range(7)]
    for name in names:
        opened(store, name, at=1_000_000.0 if name < "b4" else 1_000_001.0)
    found, edge = [], None
    while page := batches.page(store, before=edge, limit=2):
        found += [row.id for row in page]
        edge = page[-1].created_at, page[-1].id
    assert found == sorted(names, reverse=True)


def test_a_silent_dispatch_is_ended_once(store, now):
    opened(store, total=1, streams=1)
    store.write(lambda connection: batch_heartbeats.beat(connection, "b"))
    end(store, (0, "completed", "x"))
    now(1_000_000.0 + batch_heartbeats.SILENT_SECONDS)
    assert batch_heartbeats.end_silent(store, outbox.add) == []
    now(1_000_001.0 + batch_heartbeats.SILENT_SECONDS)
    [row] = batch_heartbeats.end_silent(store, outbox.add)
    assert batch_heartbeats.end_silent(store, outbox.add) == []
    assert row.id == "b"
    assert counts(store) == (2, 1, 1, 0, True)
