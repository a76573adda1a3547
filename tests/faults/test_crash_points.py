"""A crash at every step in the life of a batch, a chain and a chord: the counts are exact.

The process that dispatches, runs, records, relays or commits is killed before its k-th step, for
every k until it ends by itself. Then everything is repeated that would be in production: the
dispatch, the delivery of unacked jobs, the relay of the outbox.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import pytest

from relevo import clock
from relevo.batches import dispatch
from relevo.dispatch import delivery
from relevo.errors import DriverUnavailableError
from relevo.store import batch_heartbeats, outcomes, receipts
from tests.support.batch_life import MEMBERS, QUEUE, Fate, Life, OfBatch, OfChain, OfChord

SHAPES = {"batch": OfBatch, "chain": OfChain, "chord": OfChord}
parts = pytest.mark.parametrize(
    ("shape", "part"),
    [
        ("batch", "dispatch"),
        ("batch", "session"),
        ("batch", "work"),
        ("chain", "dispatch"),
        ("chain", "session"),
        ("chain", "work"),
        ("chord", "dispatch"),
        ("chord", "work"),
    ],
)


@pytest.fixture
def fate():
    with Fate().watching() as fate:
        yield fate


@pytest.fixture(scope="module", params=[False, True], ids=["one database", "broker apart"])
def life(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crash")
    life = Life(folder, broker=f"sqlite:///{folder}/broker.sqlite3" if request.param else None)
    life.apart = request.param
    return life


@pytest.fixture(scope="module", params=["postgresql", "redis and postgresql", "mariadb"])
def server(request, tmp_path_factory):
    store = request.getfixturevalue(
        "mariadb_url" if request.param == "mariadb" else "postgresql_url"
    )
    broker = request.getfixturevalue("redis_url") if "redis" in request.param else None
    return Life(tmp_path_factory.mktemp("crash"), store, broker)


def crash_at_every_step(life, fate, shape, part, failing):
    """Returns how many steps there are."""
    number, fate.struck, fate.pools = 0, True, life.pools
    while fate.struck:
        number += 1
        life.begin(failing)
        made = SHAPES[shape](life)
        if part != "work":
            with fate.at_step(number):
                life.in_session(made.dispatch) if part == "session" else made.dispatch()
        else:
            made.dispatch()
            with fate.at_step(number):
                life.work()
        killed_in = life.working_on
        life.dies()
        made.dispatch()
        life.work()
        if (shape, part) == (
            "batch",
            "dispatch",
        ):  # for a broker apart its page is put again, and counts once
            killed_in = {f"b.{member}" for member in range(MEMBERS)}
        made.is_exact(killed_in)
    return number


@parts
def test_a_crash_at_any_step_leaves_exact_counts(life, fate, shape, part):
    failing = (
        (1,) if life.apart else ()
    )  # what is told then, on the one; what is told of a failure, on the other
    fate.whole = life.apart or shape != "batch"
    assert crash_at_every_step(life, fate, shape, part, failing) > 1


@parts
def test_a_crash_before_and_behind_every_transaction_on_servers(server, fate, shape, part):
    fate.whole = True
    assert crash_at_every_step(server, fate, shape, part, ()) > (6 if part == "work" else 1)


@pytest.mark.parametrize("part", ["commit", "relay"])
def test_a_job_exists_if_and_only_if_its_transaction_has_committed(life, fate, part):
    def order(session):
        assert receipts.insert_once(session.connection(), "order:7")
        life.app.tasks["member"].dispatch(7, session=session)

    number, struck, seen, fate.pools = 0, True, set(), life.pools
    while struck:
        number += 1
        life.begin()
        with fate.at_step(number if part == "commit" else 0):
            life.in_session(order)
        struck = fate.struck
        with fate.at_step(number if part == "relay" else 0):
            life.work()
        struck, killed_in = struck or fate.struck, life.working_on
        life.dies()
        life.work()
        committed = life.way.store.read(lambda connection: receipts.exists(connection, "order:7"))
        seen.add(committed)
        life.is_exact(killed_in, {("member", 7)} if committed else set())
    assert seen == ({False, True} if part == "commit" else {True})


def test_a_completed_link_waits_for_the_store_to_dispatch_the_next(life, monkeypatch):
    life.begin()
    made, away = OfChain(life), iter([True] * 3)
    made.dispatch()
    [job] = life.driver.reserve([QUEUE], 2, 60, "test")
    with store_is_away(life, monkeypatch, away):
        ending = life.run(job)
    assert list(away) == []
    assert [end.state for end in ending.members] == ["completed"]
    life.driver.release([job.lease])
    life.work()  # it runs again, and has handed on
    made.is_exact(killed_in={job.id})


def test_a_link_that_can_not_dispatch_the_next_has_failed_and_goes_on_when_it_is_retried(
    life, monkeypatch
):
    life.begin()
    made = OfChain(life)
    made.dispatch()
    [job] = life.driver.reserve([QUEUE], 2, 60, "test")
    monkeypatch.setattr(delivery, "WRITE_TRIES", 2)
    with store_is_away(life, monkeypatch, itertools.repeat(True)):
        ending = life.run(job)
    assert [end.state for end in ending.members] == ["failed"]
    outcomes.write(life.way.store, [ending], life.way.hand_in)
    life.driver.release([job.lease])
    life.work()
    row = made.row()
    assert (row.completed, row.failed, row.finished) == (MEMBERS, 0, True)
    assert sorted(what for task, what, _ in life.ran if task == "told") == [
        "catch",
        "finally_",
        "then",
    ]


@contextmanager
def store_is_away(life, monkeypatch, away):
    """Within the block the store can't be written to, as long as `away` says so."""
    write = life.way.store.write

    def write_or_not(work):
        if next(away, False):
            raise DriverUnavailableError("away")
        return write(work)

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "WRITE_PAUSE_SECONDS", 0.001)
        patch.setattr(life.way.store, "write", write_or_not)
        yield


def test_an_abandoned_dispatch_is_ended_and_its_then_callback_never_runs(life, fate, monkeypatch):
    life.begin()
    made, fate.pools = OfBatch(life), life.pools
    with fate.at_step(12):
        made.dispatch()
    life.dies()
    assert fate.struck
    assert made.row().row.tally.streams == 1
    dispatch.end_abandoned(life.way)
    life.work()
    assert not made.row().finished
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + batch_heartbeats.SILENT_SECONDS + 1)
    life.way.store.write(lambda connection: batch_heartbeats.beat(connection, "b"))
    dispatch.end_abandoned(life.way)
    assert not made.row().finished
    monkeypatch.setattr(clock, "now", lambda: now + 2 * batch_heartbeats.SILENT_SECONDS + 2)
    dispatch.end_abandoned(life.way)
    dispatch.end_abandoned(life.way)
    life.work()
    batch = made.row()
    assert batch.finished
    assert batch.failed == 1
    assert sorted(what for task, what, _ in life.ran if task == "told") == [
        "before",
        "catch",
        "finally_",
    ]
    assert made.dispatch().finished
