"""Random histories of two workers that take permits in bulk, pass them on, and crash at any step.

A worker is its lease keeper and its admission, as in a real one. The pool is played here: a job
starts under the permit that it was given, or asks for one itself. Answers get lost after their step
was done; pool processes are killed; workers die and others come. Never do more than n jobs of a key
run, and at the end every permit is free.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relevo import config
from relevo.app import create_app
from relevo.drivers.contract import NewJob, ReservedJob
from relevo.errors import DriverUnavailableError
from relevo.limits.contract import OVERLAP, Holder, PermitRequest, key_of
from relevo.middleware import WithoutOverlapping
from relevo.middleware.limit_context import limits_beside
from relevo.transport.lease_keeper import LeaseKeeper
from relevo.worker.permits import PermitAdmission
from tests.support.histories import run_histories
from tests.support.workers import payload_of

if TYPE_CHECKING:
    from tests.support.brokers import Broker

DEPTH = {"memory": (80, 40), "sqlite": (6, 40)}
DEPTH_OF_A_SERVER = (3, 30)
LEASE, QUEUE = 30.0, "permits"
MOST = {"one": 1, "two": 2}

app = create_app(
    "histories",
    config.load({"QUEUE_RESULTS": "none"}, env_file=None),
    broker_url="relevo://histories",
)


def nothing():
    """Nothing is run here."""


for name, most in MOST.items():
    app.task(name=name, middleware=[WithoutOverlapping(at_most=most)])(nothing)

workers = st.sampled_from([0, 1])
picks = st.integers(0, 10_000)
ENDS = st.sampled_from(["done", "done", "again", "rejected", "killed"])


@dataclass
class Losing:
    """Limits whose next answer may get lost."""

    limits: Any
    loses: bool = False

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            answer = getattr(self.limits, name)(*arguments)
            if self.loses:
                self.loses = False
                raise DriverUnavailableError("the answer was lost")
            return answer

        return call


class Worker:
    """One process: `ahead` was reserved, `running` has started; of these `own` asked for
    themselves.
    """

    def __init__(self, driver: Any, limits: Any) -> None:
        self.driver, self.limits = driver, limits
        self.keeper = LeaseKeeper(driver, 3600)  # renewed by the test
        self.admission = self.keeper.admission = PermitAdmission(app, driver)
        self.admission._limits = self.losing = Losing(limits)
        self.ahead: deque[ReservedJob] = deque()
        self.running: dict[str, tuple[str, Holder]] = {}
        self.own: set[str] = set()

    def reserve(self, most: int) -> None:
        done = self.keeper.pop_acks()
        taken = self.keeper.adopt(self.driver.reserve([QUEUE], most, LEASE, "worker", done))
        self.admission.admit(taken)
        self.ahead.extend(taken)

    def start(self, idle: bool) -> None:
        job = self.admission.next(self.ahead, idle)
        if job is None:
            return
        token, task = job.lease.token, "one" if '"one"' in job.payload else "two"
        key, holder = key_of(OVERLAP, task, None), Holder(token, job.id, task)
        if self.admission.permit_of(token) != key:
            wait = self.limits.take(key, MOST[task], holder)
            if wait:
                self.keeper.release([token], wait)
                return
            self.own.add(token)
        self.running[token] = (task, holder)

    def finish(self, pick: int, ends: str) -> None:
        if not self.running:
            return
        token = list(self.running)[pick % len(self.running)]
        task, holder = self.running.pop(token)
        if ends != "killed":
            self.admission.body_ended(token)
            if token in self.own:
                self.driver.hasten(self.limits.release(key_of(OVERLAP, task, None), holder))
        self.own.discard(token)
        if ends == "again":
            self.keeper.release_changed(token, 0.001, payload_of(task, holder.job_id, [], QUEUE), 1)
        elif ends == "rejected":  # by the thread that hears of it, while the loop goes on
            self.start(idle=False)
            self.keeper.release([token])
        else:
            self.keeper.complete(token)

    def renew(self) -> None:
        self.keeper.lease = LEASE
        assert self.keeper.renew()

    def put_back(self) -> None:
        self.keeper.release([job.lease.token for job in self.ahead])
        self.ahead.clear()


class Histories(RuleBasedStateMachine):
    """One history. A dead worker runs nothing, but its leases last until their end."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        broker.empty()
        self.broker, self.clock = broker, broker.clock
        self.clock.time = 1000 * (1 + self.clock() // 1000)  # every history begins alike
        mine = limits_beside(broker.driver)
        self.sides = [
            (broker.driver, mine),
            (broker.other, mine if broker.name == "memory" else limits_beside(broker.other)),
        ]
        if broker.name == "memory":
            self.sides[1] = self.sides[0]
        for view in mine.views():
            mine.clear(view.key)
        self.workers = [Worker(*side) for side in self.sides]
        self.ids = itertools.count(1)

    @initialize()
    def begin(self):
        self.put(["two", "two", "two", "one", "one", "two"] * 2)
        self.reserve(0, 6)

    @rule(names=st.lists(st.sampled_from(sorted(MOST)), max_size=4))
    def put(self, names):
        jobs = [(name, f"job-{next(self.ids)}") for name in names]
        self.broker.driver.put(
            [NewJob(QUEUE, payload_of(name, job_id, [], QUEUE), job_id) for name, job_id in jobs]
        )

    @rule(worker=workers, most=st.integers(1, 6))
    def reserve(self, worker, most):
        self.workers[worker].reserve(most)

    @rule(worker=workers, idle=st.sampled_from([False, False, False, True]))
    def start(self, worker, idle):
        self.workers[worker].start(idle)

    @rule(worker=workers, pick=picks, ends=ENDS)
    def finish(self, worker, pick, ends):
        self.workers[worker].finish(pick, ends)

    @rule(worker=workers, ends=ENDS)
    def run_on(self, worker, ends):
        """A pool that is busy: one ends, the next begins, as the loop comes by."""
        worker = self.workers[worker]
        for _ in range(3):
            worker.start(idle=False)
            worker.finish(0, ends)
            worker.start(idle=False)

    @rule(worker=workers)
    def look(self, worker):
        self.workers[worker].keeper.flush()

    @rule(worker=workers)
    def write_back(self, worker):
        self.workers[worker].keeper.write_releases()

    @rule(worker=workers)
    def put_back(self, worker):
        self.workers[worker].put_back()

    @rule(worker=workers)
    def lose_the_next_answer(self, worker):
        self.workers[worker].losing.loses = True

    @rule(worker=workers)
    def die(self, worker):
        self.workers[worker].keeper._stop.set()
        self.workers[worker] = Worker(*self.sides[worker])

    @rule(seconds=st.sampled_from([0.1, 1.1, LEASE + 1, 70.0]))
    def pass_time(self, seconds):
        """The living renew before their leases end."""
        self.clock.forward(seconds)
        for worker in self.workers:
            worker.renew()

    @invariant()
    def never_more_than_there_are(self):
        running = [task for worker in self.workers for task, _ in worker.running.values()]
        assert all(running.count(task) <= most for task, most in MOST.items())

    @invariant()
    def what_runs_has_a_permit(self):
        """Whether the broker has it, or will have it when a handover of the worker's is written."""
        held = {one.job_id for view in self.workers[0].limits.views() for one in view.holders}
        for worker in self.workers:
            for left in worker.admission._handovers:
                if left.to and left.request.holder.job_id in held:
                    held.add(left.to.job_id)
        running = {
            holder.job_id for worker in self.workers for _, holder in worker.running.values()
        }
        assert running <= held

    def teardown(self):
        """Everybody dies: after one lease all is free."""
        for worker in self.workers:
            worker.keeper._stop.set()
        driver, limits = self.sides[0]
        self.clock.forward(LEASE + 61)  # and those in line are forgotten
        driver.rescue()
        for task, most in MOST.items():
            queue = f"fresh-{task}"
            driver.put([NewJob(queue, "{}", f"{queue}-{number}") for number in range(most)])
            fresh = [
                Holder(job.lease.token, job.id, task)
                for job in driver.reserve([queue], most, LEASE, "worker")
            ]
            key = key_of(OVERLAP, task, None)
            taken = limits.take_free([PermitRequest(key, most, one) for one in fresh])
            assert all(one.token in taken or limits.take(key, most, one) == 0 for one in fresh)
        self.broker.empty()


def test_whatever_happens_no_more_jobs_run_than_there_are_permits_and_no_permit_sticks(broker):
    examples, steps = DEPTH.get(broker.name, DEPTH_OF_A_SERVER)
    run_histories(lambda: Histories(broker), examples, steps)
