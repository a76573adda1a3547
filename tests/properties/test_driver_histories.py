"""Random histories of workers that may die anywhere: every job has one state and one holder at
most.

Two processes put, reserve, extend, ack, release and rescue in any order while the clock moves on. A
worker may die between any two steps, and come back much later with a lease that has ended. After
every step the driver must answer as the model does. At the end every job of the model must exist.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relevo.drivers.contract import Conflict, Lease, NewJob, State
from relevo.drivers.values import UNTIL_LIFTED
from tests.support.driver_model import Model

if TYPE_CHECKING:
    from tests.support.brokers import Broker

# How many histories of how many steps. A server's step costs a hundred times a step in memory.
DEPTH = {"memory": (80, 40), "sqlite": (10, 40)}
DEPTH_OF_A_SERVER = (4, 25)

QUEUES = ["high", "low"]
queues = st.sampled_from(QUEUES)
workers = st.sampled_from([0, 1])
delays = st.sampled_from([0, 0, 5, 40])
lengths = st.sampled_from([10, 30])
some = st.integers(1, 4)
meddling = st.sampled_from(["delete", "delete", "hold", "hold", "clear", "pause", "resume"])
picks = st.integers(0, 10_000)
new_jobs = st.tuples(
    queues,
    st.sampled_from([0, 0, 5, 9]),
    delays,
    st.sampled_from([None, None, "k", "l"]),
    st.sampled_from(["keep", "keep", "replace", "latest"]),
)


def _somebody_works(histories: Histories) -> bool:
    return any(histories.held.values())


class Histories(RuleBasedStateMachine):
    """One history of two workers, one in our process and one in the other."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        broker.empty()
        self.broker, self.clock, self.model = broker, broker.clock, Model()
        self.ids = (f"job-{number}" for number in itertools.count(1))
        self.held: dict[int, list[Lease]] = {0: [], 1: []}
        self.ghosts: list[Lease] = []
        self.tokens: set[str] = set()

    def driver(self, worker: int):
        return (self.broker.driver, self.broker.other)[worker]

    # --- what workers and clients do --------------------------------------------------------------
    @initialize(worker=workers, wanted=st.lists(new_jobs, min_size=3, max_size=5))
    def begin(self, worker, wanted):
        self.put(worker, wanted)

    @rule(worker=workers, wanted=st.lists(new_jobs, min_size=1, max_size=5))
    def put(self, worker, wanted):
        now = self.clock()
        jobs = [
            NewJob(
                queue,
                f"payload of {id_}",
                id_,
                priority,
                now + delay if delay else None,
                key,
                on_conflict=Conflict(conflict),
                max_delay=12 if conflict == "latest" else None,
            )
            for (queue, priority, delay, key, conflict), id_ in zip(wanted, self.ids, strict=False)
        ]
        placed = self.driver(worker).put(jobs)
        assert [(one.id, one.created, one.replaced) for one in placed] == [
            self.model.put(job, now) for job in jobs
        ]

    @rule(
        worker=workers,
        order=st.permutations(QUEUES),
        among=st.integers(1, 2),
        limit=some,
        lease=lengths,
        done=some,
    )
    def reserve(self, worker, order, among, limit, lease, done):
        finished, self.held[worker] = self.held[worker][:done], self.held[worker][done:]
        self.ghosts += finished
        self.model.forget(self.model.held(finished))
        self.model.rescue(self.clock())
        expected = self.model.next_jobs(order[:among], limit, self.clock())
        taken = self.driver(worker).reserve(
            order[:among], limit, lease, f"worker-{worker}", done=finished
        )
        for job in expected:
            job.attempts += 1
        assert [_told(job) for job in taken] == [_told(job) for job in expected]
        for got, job in zip(taken, expected, strict=True):
            job.lease, job.until = got.lease, self.clock() + lease
            self.held[worker].append(got.lease)
        self._expect_fresh_tokens([got.lease.token for got in taken])

    @precondition(_somebody_works)
    @rule(worker=workers, lease=lengths)
    def extend(self, worker, lease):
        self._extend(worker, self.held[worker] or self.held[1 - worker], lease)

    @precondition(_somebody_works)
    @rule(worker=workers, many=some)
    def ack(self, worker, many):
        self._ack(worker, self._let_go(worker, many))

    @precondition(_somebody_works)
    @rule(
        worker=workers,
        many=some,
        delay=delays,
        payload=st.sampled_from([None, "new"]),
        attempts=st.sampled_from([None, None, 0, 3]),
    )
    def release(self, worker, many, delay, payload, attempts):
        self._release(worker, self._let_go(worker, many), delay, payload, attempts)

    @precondition(_somebody_works)
    @rule(worker=workers, many=some)
    def park(self, worker, many):
        leases = self._let_go(worker, many)
        self.ghosts += leases
        parked = self.model.park(self.model.held(leases), self.clock())
        assert self.driver(worker).park(leases, "some") == parked

    @rule(
        worker=workers,
        seconds=st.sampled_from([None, 5, 40]),
        verb=st.sampled_from(["suspend", "suspend", "lift"]),
    )
    def suspend_or_lift(self, worker, seconds, verb):
        if verb == "lift":
            self._lift(self.driver(worker))
        else:
            until = seconds and self.clock() + seconds
            self.model.suspend(UNTIL_LIFTED if until is None else until, self.clock())
            self.driver(worker).suspend("some", until)

    @precondition(lambda self: any(job.lease for job in self.model.jobs.values()))
    @rule(worker=workers, seconds=st.sampled_from([0, 9, 10]))
    def rescue(self, worker, seconds):
        self.clock.forward(seconds)
        assert self.driver(worker).rescue() == self.model.rescue(self.clock())

    def _let_go(self, worker, many):
        """The first leases of a worker, or of the other if it has none: any process may ack the
        other's jobs.
        """
        holder = self.held[worker] or self.held[1 - worker]
        gone = holder[:many]
        del holder[:many]
        return gone

    # --- what goes wrong --------------------------------------------------------------------------
    @precondition(_somebody_works)
    @rule(worker=workers)
    def die(self, worker):
        self.ghosts += self.held[worker]
        self.held[worker] = []

    @precondition(lambda self: self.ghosts)
    @rule(worker=workers, pick=picks, verb=st.sampled_from(["ack", "extend", "release"]))
    def come_back_as_a_ghost(self, worker, pick, verb):
        lease = self.ghosts[pick % len(self.ghosts)]
        if verb == "ack":
            self._ack(worker, [lease])
        elif verb == "extend":
            self._extend(worker, [lease], 10)
        else:
            self._release(worker, [lease], 5, "a ghost's", None)

    @rule(seconds=st.sampled_from([1, 5, 10, 30]))
    def let_time_pass(self, seconds):
        self.clock.forward(seconds)

    # --- what people do ---------------------------------------------------------------------------
    @rule(
        worker=workers, queue=queues, pick=picks, seconds=st.sampled_from([None, 5]), verb=meddling
    )
    def mend(self, worker, queue, pick, seconds, verb):
        """One rule for all of these, or most histories would only clear empty queues."""
        driver = self.driver(worker)
        if verb == "delete":
            self._delete(driver, pick)
        elif verb == "hold":
            self._hold(driver, pick)
        elif verb == "clear":
            free = [job for job in self.model.jobs.values() if job.queue == queue and not job.lease]
            assert driver.clear(queue) == self.model.forget(free)
        elif verb == "pause":
            self.model.pauses[queue] = seconds and self.clock() + seconds
            driver.pause(queue, self.model.pauses[queue])
        else:
            self._resume(driver, queue)

    # --- what must hold ---------------------------------------------------------------------------
    @invariant()
    def the_sizes_add_up(self):
        for queue in QUEUES:
            pending, delayed, reserved = (
                self.model.in_state(queue, state, self.clock()) for state in _SIZED
            )
            sizes = self.broker.other.sizes(queue)
            assert (sizes.pending, sizes.delayed, sizes.reserved) == (
                len(pending),
                len(delayed),
                len(reserved),
            )
            oldest = max((self.clock() - job.available_at for job in pending), default=None)
            assert sizes.oldest == oldest

    @rule()
    def every_job_is_in_exactly_one_state_and_in_its_place(self):
        for queue, state in itertools.product(QUEUES, State):
            seen = self.broker.driver.peek(queue, state, limit=1000)
            expected = self.model.in_state(queue, state, self.clock())
            in_turn = sorted if state is not State.PENDING else list
            assert in_turn(_told(view) for view in seen) == in_turn(_told(job) for job in expected)
            if state is State.RESERVED:
                assert sorted(view.reserved_until for view in seen) == sorted(
                    job.until for job in expected
                )
        seen, _ = self.broker.driver.scan(limit=1000)
        assert {view.id: _told(view) for view in seen} == {
            id_: _told(job) for id_, job in self.model.jobs.items()
        }
        assert self.broker.driver.queues() == sorted(
            {job.queue for job in self.model.jobs.values()}
        )
        assert self.broker.driver.paused() == self.model.paused(self.clock())

    def teardown(self):
        """All workers are dead, all pauses and delays over: exactly the model's jobs can be
        reserved.
        """
        self.every_job_is_in_exactly_one_state_and_in_its_place()
        for queue in QUEUES:
            self._resume(self.broker.driver, queue)
        self._lift(self.broker.driver)
        self.clock.forward(1000)
        taken = self.broker.other.reserve(QUEUES, 10_000, 10, "last")
        assert sorted(job.id for job in taken) == sorted(self.model.jobs)
        assert self.broker.driver.ack([job.lease for job in taken]) == len(taken)
        assert self.broker.other.queues() == []

    # --- what the living and the ghosts share -----------------------------------------------------
    def _ack(self, worker, leases):
        self.ghosts += leases
        assert self.driver(worker).ack(leases) == self.model.forget(self.model.held(leases))

    def _extend(self, worker, leases, length):
        held = self.model.held(leases)
        lost = set(leases) - {job.lease for job in held}
        assert set(self.driver(worker).extend(leases, length)) == lost
        for job in held:
            job.until = self.clock() + length

    def _release(self, worker, leases, delay, payload, attempts):
        self.ghosts += leases
        held = self.model.held(leases)
        assert self.driver(worker).release(leases, delay, payload, attempts) == len(held)
        for job in held:
            job.lease = None
            job.available_at = self.clock() + delay if delay else job.available_at
            job.payload = payload or job.payload
            job.attempts = job.attempts - 1 if attempts is None else attempts

    def _delete(self, driver, pick):
        ids = [*self.model.jobs, "never-was"]
        id_ = ids[pick % len(ids)]
        assert driver.delete([id_]) == self.model.forget(
            [self.model.jobs[id_]] if id_ in self.model.jobs else []
        )

    def _hold(self, driver, pick):
        """Take a job by its id. Then ack it, release it, or let its holder die."""
        ids = [*self.model.jobs, "never-was"]
        free = [
            job
            for job in self.model.jobs.values()
            if job.id == ids[pick % len(ids)] and not job.lease
        ]
        taken = driver.hold([ids[pick % len(ids)]], 10, "mender")
        assert [_told(each.was) for each in taken] == [_told(job) for job in free]
        self._expect_fresh_tokens([each.lease.token for each in taken])
        for each, job in zip(taken, free, strict=True):
            job.lease, job.until = each.lease, self.clock() + 10
            end = pick % 3
            if end == 0:
                self._ack(0, [each.lease])
            elif end == 1:
                self._release(0, [each.lease], 0, None, job.attempts)

    def _resume(self, driver, queue):
        self.model.pauses.pop(queue, None)
        driver.resume(queue)

    def _lift(self, driver):
        self.model.unpark(None, self.clock())
        self.model.suspended = False
        driver.lift("some")

    def _expect_fresh_tokens(self, tokens):
        assert len(set(tokens)) == len(tokens)
        assert not self.tokens.intersection(tokens)
        self.tokens.update(tokens)


_SIZED = (State.PENDING, State.DELAYED, State.RESERVED)


def _told(job) -> tuple:
    return (job.id, job.queue, job.payload, job.priority, job.attempts, job.rescues)


def test_whatever_happens_no_job_is_lost_and_none_is_held_by_two(broker: Broker):
    histories, steps = DEPTH.get(broker.name, DEPTH_OF_A_SERVER)
    depth = settings(
        max_examples=histories,
        stateful_step_count=steps,
        deadline=None,
        # one history that fails says enough, and finding the shortest takes long
        report_multiple_bugs=False,
        suppress_health_check=list(
            HealthCheck
        ),  # a real server on a busy machine is slow, and may be
    )
    run_state_machine_as_test(lambda: Histories(broker), settings=depth)
