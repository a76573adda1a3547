"""reserve: strict order, a limit, acks in the same step, and no job for two workers."""

from __future__ import annotations

from relevo.drivers.contract import State
from tests.support.driver_jobs import LEASE, counts, ids, job, put, take, take_one


def test_jobs_of_one_queue_come_in_the_order_of_putting(driver):
    put(driver, "a", "b")
    put(driver, "c")
    assert ids(take(driver)) == ["a", "b", "c"]


def test_the_queue_named_first_is_emptied_first(driver):
    # Given jobs in three queues, the last put into the first
    for queue in ("low", "default", "high"):
        put(driver, f"{queue}-1", f"{queue}-2", queue=queue)

    # I expect all of a queue before any of the next, in the order asked for
    assert ids(take(driver, "high", "default", "low", limit=3)) == ["high-1", "high-2", "default-1"]
    assert ids(take(driver, "low", "default", limit=3)) == ["low-1", "low-2", "default-2"]


def test_a_queue_goes_before_a_priority(driver):
    put(driver, "urgent", queue="low", priority=0)
    put(driver, "idle", queue="high", priority=9)
    assert ids(take(driver, "high", "low")) == ["idle", "urgent"]


def test_priority_zero_comes_first_and_nine_last(driver):
    for priority in (5, 9, 0):
        put(driver, f"{priority}", priority=priority)
    assert ids(take(driver)) == ["0", "5", "9"]


def test_a_priority_goes_before_an_age(driver, clock):
    put(driver, "old", priority=1)
    clock.forward(3600)
    put(driver, "new", priority=0)
    assert ids(take(driver)) == ["new", "old"]


def test_within_a_priority_comes_first_what_could_have_run_first(driver, clock):
    # Given a job put first for ten seconds later, and one put five seconds later for at once
    driver.put([job(id="due-second", available_at=clock() + 10)])
    clock.forward(5)
    put(driver, "due-first")
    clock.forward(5)
    put(driver, "due-with-the-second")

    # I expect the order of the instants, and the order of putting where they are the same
    assert ids(take(driver)) == ["due-first", "due-second", "due-with-the-second"]


def test_no_more_than_the_limit_are_taken(driver):
    put(driver, "a", "b", "c")
    assert ids(take(driver, limit=2)) == ["a", "b"]
    assert counts(driver) == (1, 0, 2)


def test_a_limit_of_zero_takes_nothing_and_still_acks(driver):
    put(driver, "a", "b")
    [held] = take(driver, limit=1)
    assert driver.reserve(["default"], 0, LEASE, "worker", done=[held.lease]) == []
    assert counts(driver) == (1, 0, 0)


def test_a_reserved_job_goes_to_no_other_worker(driver, other):
    put(driver, "a", "b")
    assert ids(take(driver, limit=1)) == ["a"]
    assert ids(take(other)) == ["b"]
    assert take(driver) == []


def test_jobs_come_from_the_given_queues_only(driver):
    put(driver, "a", queue="elsewhere")
    assert take(driver, "default") == []


def test_without_a_queue_there_is_no_job(driver):
    put(driver, "a")
    held = take_one(driver)
    put(driver, "b")
    assert driver.reserve([], 5, LEASE, "worker", done=[held.lease]) == []
    assert counts(driver) == (1, 0, 0)


def test_a_queue_named_twice_gives_its_jobs_once_and_where_it_is_named_first(driver):
    put(driver, "a", queue="x")
    put(driver, "b", queue="y")
    assert ids(take(driver, "x", "y", "x")) == ["a", "b"]


def test_a_reserved_job_names_its_worker_and_the_end_of_its_lease(driver, clock):
    # When a worker takes a job for a minute
    put(driver, "a")
    driver.reserve(["default"], 1, 60, by="host-7:pid-12")

    # I expect people to see who has it, and until when
    [view] = driver.peek("default", State.RESERVED)
    assert (view.reserved_by, view.reserved_until) == ("host-7:pid-12", clock() + 60)


def test_every_reservation_has_its_own_token(driver):
    # Given a job taken twice and its neighbour
    put(driver, "a", "b")
    first, neighbour = take(driver)
    driver.release([first.lease])

    # I expect three leases
    assert len({first.lease, neighbour.lease, take_one(driver).lease}) == 3


def test_done_jobs_are_acked_in_the_same_step(driver):
    # Given a worker that holds two jobs, and one that waits
    put(driver, "a", "b", "c")
    first, second = take(driver, limit=2)

    # When it asks for more and says that the first is done
    [third] = driver.reserve(["default"], 5, LEASE, "worker", done=[first.lease])

    # I expect the first to be gone and the second to be held still
    assert third.id == "c"
    assert ids(driver.peek("default", State.RESERVED)) == ["b", "c"]
    assert driver.ack([first.lease, second.lease]) == 1


def test_done_jobs_whose_lease_has_been_rescued_are_not_acked(driver, clock):
    # Given a job that was taken from a slow worker
    put(driver, "a")
    stale = take_one(driver)
    clock.forward(LEASE)
    driver.rescue()

    # When that worker says it is done, I expect it to be there to be taken, by itself as well
    [again] = driver.reserve(["default"], 5, LEASE, "worker", done=[stale.lease])
    assert (again.id, again.attempts) == ("a", 2)


def test_a_delayed_job_of_an_earlier_queue_does_not_block_a_later_one(driver, clock):
    driver.put([job("high", available_at=clock() + 60)])
    put(driver, "a", queue="low")
    assert ids(take(driver, "high", "low")) == ["a"]
