"""Threads on the drivers of two processes: no job goes to two workers, no step is done twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from relevo.drivers.contract import Binding, Broadcast
from tests.support.driver_jobs import LEASE, counts, ids, job, put, take

THREADS = 6
JOBS = 60


def together(driver, other, work):
    """Call `work(driver, number)` in several threads at the same moment, on both drivers in turn;
    its results.
    """
    start = threading.Barrier(THREADS)

    def begin(number):
        start.wait()
        return work((driver, other)[number % 2], number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


def test_two_workers_never_get_the_same_job(driver, other):
    # Given many jobs
    driver.put([job(id=f"{number}") for number in range(JOBS)])

    # When several workers take them all, three at a time
    def drain(mine, _number):
        got = []
        while mine.sizes("default").pending:
            got += ids(take(mine, limit=3))
        return got

    taken = [id_ for got in together(driver, other, drain) for id_ in got]

    # I expect every job to have been given once
    assert len(taken) == JOBS
    assert set(taken) == {f"{number}" for number in range(JOBS)}


def test_jobs_are_taken_and_acked_in_one_step_by_many_workers(driver, other):
    # Given many jobs in two queues
    driver.put([job(("high", "low")[number % 2], id=f"{number}") for number in range(JOBS)])

    # When workers run them as workers do, acking the last ones with the next asking
    def run(mine, number):
        ran, held = [], []
        while True:
            jobs = mine.reserve(["high", "low"], 4, LEASE, f"worker-{number}", done=held)
            held = [one.lease for one in jobs]
            ran += ids(jobs)
            if not jobs and not (mine.sizes("high").pending or mine.sizes("low").pending):
                return ran

    ran = [id_ for one in together(driver, other, run) for id_ in one]

    # I expect each to have run once, and nothing to be left
    assert sorted(ran, key=int) == [f"{number}" for number in range(JOBS)]
    assert driver.queues() == []


def test_of_many_concurrent_puts_of_one_key_one_succeeds(driver, other):
    for round_ in range(3):
        # When several threads put a job with the same key
        def put_one(mine, number, round_=round_):
            [placed] = mine.put([job(id=f"{round_}-{number}", unique_key=f"key-{round_}")])
            return placed

        placed = together(driver, other, put_one)

        # I expect one to have been put, and all to be told its id
        winners = [one for one in placed if one.created]
        assert len(winners) == 1
        assert {one.id for one in placed} == {winners[0].id}
    assert counts(driver) == (3, 0, 0)


def test_concurrent_batches_with_the_same_keys_put_each_key_once(driver, other):
    # Given batches of the same keys in different orders, which is how databases come to deadlock
    def put_all(mine, number):
        keys = range(20) if number % 2 else reversed(range(20))
        return mine.put([job(unique_key=f"k{key}") for key in keys])

    placed = [one for batch in together(driver, other, put_all) for one in batch]
    assert sum(one.created for one in placed) == 20
    assert counts(driver) == (20, 0, 0)


def test_concurrent_rescues_bring_each_job_back_once(driver, other, clock):
    driver.put([job() for _ in range(JOBS)])
    take(driver, limit=JOBS)
    clock.forward(LEASE)
    assert sum(together(driver, other, lambda mine, _number: mine.rescue())) == JOBS
    assert {one.rescues for one in take(driver, limit=JOBS)} == {1}


def test_concurrent_acks_of_one_lease_count_once(driver, other):
    driver.put([job() for _ in range(JOBS)])
    leases = [one.lease for one in take(driver, limit=JOBS)]
    assert sum(together(driver, other, lambda mine, _number: mine.ack(leases))) == JOBS


def test_of_a_concurrent_ack_and_rescue_one_wins(driver, other, clock):
    # Given jobs whose leases ran out
    driver.put([job() for _ in range(JOBS)])
    leases = [one.lease for one in take(driver, limit=JOBS)]
    clock.forward(LEASE)

    # When their worker acks them one by one while another rescues
    def race(mine, number):
        if number:
            return mine.rescue()
        return sum(mine.ack([lease]) for lease in leases)

    acked, *rescued = together(driver, other, race)

    # I expect each to be gone or back
    assert acked + sum(rescued) == JOBS
    assert counts(driver) == (JOBS - acked, 0, 0)


def test_everything_at_once_loses_nothing(driver, other):
    # Given workers that put, take, extend, release, ack, look and rescue at the same time
    def live(mine, number):
        done = 0
        for turn in range(10):
            put(mine, f"{number}-{turn}", priority=turn)
            jobs = take(mine, limit=2)
            leases = [one.lease for one in jobs]
            assert mine.extend(leases, LEASE) == []
            mine.release(leases[1:])
            mine.rescue()
            mine.sizes("default")
            mine.queues()
            done += mine.ack(leases[:1])
        return done

    # I expect what was put to be acked or waiting
    acked = sum(together(driver, other, live))
    assert counts(driver) == (THREADS * 10 - acked, 0, 0)


def test_concurrent_readers_of_a_mailbox_get_each_message_once(driver, other, box):
    driver.subscribe(box, [Binding(box)], 600)
    driver.broadcast([Broadcast(box, "", f"{number}") for number in range(JOBS)])
    got = together(driver, other, lambda mine, _number: mine.receive(box))
    assert sorted(int(one.payload) for messages in got for one in messages) == list(range(JOBS))


def test_broadcasts_of_many_threads_arrive_once_and_in_the_order_of_each_thread(driver, other, box):
    # Given a mailbox that is read while they are sent
    driver.subscribe(box, [Binding(box)], 600)
    heard = []

    def work(mine, number):
        for turn in range(20):
            if number == 0:
                heard.extend(driver.receive(box))
            else:
                mine.broadcast([Broadcast(box, "", f"{number}-{turn}")])

    together(driver, other, work)
    heard += driver.receive(box)

    # I expect every message once, and no sender's out of order
    for number in range(1, THREADS):
        mine = [one.payload for one in heard if one.payload.startswith(f"{number}-")]
        assert mine == [f"{number}-{turn}" for turn in range(20)]
