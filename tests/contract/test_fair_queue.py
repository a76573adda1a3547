"""Fair queues: keys take turns, however many jobs one has waiting. All else is as in
every queue.
"""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from relevo.drivers.contract import Conflict, State
from relevo.drivers.database.tables import jobs, turns
from relevo.errors import OptionError
from tests.support.driver_jobs import LEASE, counts, ids, job, put, take, take_one

# What a driver gives turns to may wait for that as long as what has come due.
SWEEP = 0.25


def put_many(driver, key, number, **fields):
    driver.put([job(id=f"{key}{n}", fair_key=key, **fields) for n in range(1, number + 1)])


def in_turn(driver, limit=100):
    return ids(take(driver, limit=limit))


def test_keys_take_turns_however_many_jobs_one_has_waiting(driver, other):
    put_many(driver, "a", 4)
    put_many(other, "b", 2)
    put_many(driver, "c", 1)
    assert in_turn(driver) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_a_key_that_comes_late_has_the_next_turn(driver, clock):
    put_many(driver, "a", 3000)
    assert in_turn(driver, 50)[-1] == "a50"
    clock.forward(LEASE / 2)
    put_many(driver, "b", 2)
    taken = in_turn(driver, 4)
    assert sorted(taken) == ["a51", "a52", "b1", "b2"]


def test_a_key_owes_nothing_for_turns_it_had_while_no_other_waited(driver):
    put_many(driver, "a", 20)
    driver.ack([one.lease for one in take(driver)])
    driver.put([job(id="b1", fair_key="b"), job(id="b2", fair_key="b"), job(id="a", fair_key="a")])
    assert in_turn(driver) == ["b1", "a", "b2"]


def test_priority_goes_before_turns(driver):
    put_many(driver, "a", 2, priority=5)
    driver.put([job(id="b", fair_key="b", priority=9), job(id="c", fair_key="a", priority=0)])
    assert in_turn(driver) == ["c", "a1", "a2", "b"]


def test_queues_and_keys_are_apart_and_exact(driver):
    driver.put([job("x", id="x1", fair_key="a"), job("x", id="x2", fair_key="a")])
    driver.put([job("y", id="y1", fair_key="a"), job("x", id="x3", fair_key="A")])
    assert ids(take(driver, "x")) == ["x1", "x3", "x2"]
    assert ids(take(driver, "y")) == ["y1"]


def test_jobs_without_a_key_are_one_among_them(driver, clock):
    put_many(driver, "a", 3)
    put(driver, "n1", "n2")
    clock.forward(SWEEP)
    assert in_turn(driver) == ["a1", "n1", "a2", "n2", "a3"]


def test_jobs_that_waited_before_the_first_key_came_run_too(driver, clock):
    put(driver, "n1", "n2")
    put_many(driver, "a", 2)
    clock.forward(SWEEP)
    assert sorted(in_turn(driver)) == ["a1", "a2", "n1", "n2"]


def test_a_job_that_goes_back_keeps_its_turn(driver, clock):
    put_many(driver, "a", 3)
    put_many(driver, "b", 3)
    first, _ = take(driver, limit=2)
    driver.release([first.lease])
    assert in_turn(driver, 1) == ["a1"]
    clock.forward(LEASE)
    driver.rescue()
    assert in_turn(driver) == ["a1", "b1", "a2", "b2", "a3", "b3"]


def test_a_delayed_job_takes_the_next_turn_of_its_key_when_it_is_due(driver, clock):
    # Given a job of "a" that is delayed, one of "b" that goes back for a while, and others of "a"
    driver.put([job(id="late", fair_key="a", available_at=clock() + 60)])
    put_many(driver, "b", 1)
    driver.release([take_one(driver).lease], delay=60)
    put_many(driver, "a", 2)
    assert counts(driver) == (2, 2, 0)
    clock.forward(60)
    assert counts(driver) == (4, 0, 0)
    taken = in_turn(driver)
    assert sorted(taken) == ["a1", "a2", "b1", "late"]
    assert taken.index("b1") < 2
    assert taken[-1] == "late"


def test_hastened_and_lifted_jobs_get_a_turn(driver, clock):
    put_many(driver, "a", 2)
    driver.put([job(id="b", fair_key="b", available_at=clock() + 60)])
    driver.hasten(["b"])
    clock.forward(SWEEP)
    assert in_turn(driver, 3)[:2] in (["a1", "b"], ["b", "a1"])
    put_many(driver, "c", 2)
    driver.suspend("task:x")
    driver.park([one.lease for one in take(driver)], "task:x")
    assert counts(driver) == (0, 2, 3)
    driver.lift("task:x")
    assert sorted(in_turn(driver)) == ["c1", "c2"]


def test_peek_shows_when_each_job_could_have_run(driver, other, clock):
    began = clock()
    put_many(driver, "a", 2)
    clock.forward(10)
    put_many(driver, "b", 1)
    assert [(view.id, view.available_at) for view in other.peek("default", State.PENDING)] == [
        ("a1", began),
        ("b1", began + 10),
        ("a2", began),
    ]
    assert (other.sizes("default").oldest, counts(driver)) == (10, (3, 0, 0))
    assert {view.available_at for view in other.find(["a1", "a2"])} == {began}
    assert {view.id: view.state for view in other.scan()[0]} == dict.fromkeys(
        ["a1", "a2", "b1"], State.PENDING
    )
    take(driver, limit=1)
    assert (driver.sizes("default").oldest, counts(driver)) == (10, (2, 0, 1))


def test_deleted_held_cleared_and_acked_jobs_are_gone(driver):
    put_many(driver, "a", 6)
    (held,) = driver.hold(["a2"], 30, by="mender")
    assert driver.ack([held.lease]) == 1
    assert driver.delete(["a1"]) == 1
    lease = take(driver, limit=1)[0].lease
    assert driver.ack([lease]) == 1
    assert driver.clear("default") == 3
    assert driver.queues() == []
    put_many(driver, "b", 1)
    assert in_turn(driver) == ["b1"]


def test_all_keys_begin_anew_in_a_cleared_queue(driver, clock):
    put_many(driver, "a", 3)
    driver.clear("default")
    put_many(driver, "b", 1)
    put_many(driver, "a", 1)
    assert in_turn(driver) == ["b1", "a1"]
    driver.clear("default")
    driver.put([job(id="second", available_at=clock() + 1)])
    clock.forward(1)
    put(driver, "third")
    assert in_turn(driver) == ["second", "third"]


def test_a_paused_fair_queue_waits(driver):
    put_many(driver, "a", 2)
    driver.pause("default")
    assert in_turn(driver) == []
    driver.resume("default")
    assert in_turn(driver) == ["a1", "a2"]


def test_a_unique_job_takes_a_turn_only_if_it_is_put(driver, clock):
    fields = {"fair_key": "a", "unique_key": "k", "on_conflict": Conflict.REPLACE}
    driver.put([job(id="a1", **fields)])
    put_many(driver, "b", 1)
    for number in range(5):
        driver.put([job(id=f"again-{number}", payload=str(number), **fields)])
    driver.put([job(id="a2", fair_key="a")])
    assert [(one.id, one.payload) for one in take(driver)] == [
        ("a1", "4"),
        ("b1", "{}"),
        ("a2", "{}"),
    ]


def test_a_job_that_is_replaced_to_a_later_time_and_back_has_its_turn(driver, clock):
    fields = {"fair_key": "a", "unique_key": "k", "on_conflict": Conflict.LATEST}
    driver.put([job(id="a1", **fields)])
    driver.put([job(available_at=clock() + 60, **fields)])
    assert counts(driver) == (0, 1, 0)
    driver.put([job(available_at=clock(), **fields)])
    assert in_turn(driver) == ["a1"]


def raise_turns(driver, turn):
    """Let the queue look as if so many turns had been given."""
    driver.connections.write(lambda c: c.execute(update(turns).values(finish=turn)))


def last_turn(driver):
    return driver.connections.read(lambda c: c.execute(select(func.max(turns.c.finish))).scalar())


ON_SQL = pytest.mark.parametrize("broker", ["sqlite", "postgresql", "mariadb"], indirect=True)


@ON_SQL
def test_turns_start_anew_when_no_job_waits(driver, other, clock):
    # Given a queue that has given very many turns, and jobs of it that run
    put_many(driver, "a", 1)
    in_turn(driver)
    raise_turns(driver, 5e8)
    put_many(driver, "b", 3)
    running = take(driver, limit=2)
    clock.forward(SWEEP)
    assert ids(take(other)) == ["b3"]
    assert last_turn(driver) == 5e8 + 3

    # When none waits, I expect the turns to start anew
    clock.forward(SWEEP)
    driver.put([job("elsewhere", id="e")])
    take(driver, "elsewhere")
    assert last_turn(driver) == 4

    # and a running job that goes back to come before all that are put meanwhile
    put_many(other, "c", 2)
    driver.release([one.lease for one in running])
    assert in_turn(other) == ["b1", "b2", "c1", "c2"]
    put_many(driver, "b", 2)
    put_many(driver, "d", 1)
    assert sorted(in_turn(driver, 2)) == ["b1", "d1"]


@ON_SQL
def test_turns_do_not_start_anew_while_a_job_of_the_queue_is_in_another_transaction(
    driver, other, clock
):
    put_many(driver, "a", 1)
    raise_turns(driver, 5e8)
    put_many(driver, "b", 1)
    running = take(driver, limit=2)
    clock.forward(SWEEP)
    driver.put([job("elsewhere", id="e")])
    if driver.name == "sqlite":  # one transaction at a time
        return
    with driver.connections.engine.begin() as connection:
        connection.execute(select(jobs.c.id).where(jobs.c.job_id == "b1").with_for_update())
        take(other, "elsewhere")
        assert last_turn(driver) >= 5e8
    driver.release([running[-1].lease])
    clock.forward(SWEEP)
    take(other, "elsewhere")
    assert last_turn(driver) >= 5e8


@ON_SQL
def test_a_turn_never_becomes_an_instant(driver, clock):
    put_many(driver, "a", 1)
    raise_turns(driver, 1e9 - 2)
    put_many(driver, "b", 5)
    assert in_turn(driver) == ["a1", "b1", "b2", "b3", "b4", "b5"]
    assert last_turn(driver) < 1e9


def test_one_call_can_put_jobs_of_fair_and_other_queues(driver):
    driver.put(
        [
            job("x", id="a", fair_key="k"),
            job("y", id="b"),
            job("x", id="c", fair_key="k"),
            job("x", id="d", fair_key="l"),
        ]
    )
    assert ids(take(driver, "x", "y")) == ["a", "d", "c", "b"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\0b", "\ud800"])
def test_a_key_too_long_for_brokers_is_refused(driver, key):
    with pytest.raises(OptionError, match="fair_key"):
        driver.put([job(fair_key=key)])
    assert driver.queues() == []
