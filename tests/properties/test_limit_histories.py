"""Random histories with crashes: never more than n at once, never more than the rate, nothing
stuck.

Workers take jobs, and permits under their leases. They finish, renew, forget to give back, die at
any moment, and come back late. A holder is a job with a permit and a lease that has not ended. At
the end every permit must be free.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relevo.drivers.contract import NewJob
from relevo.limits.contract import Holder
from relevo.limits.rates import Rate
from relevo.limits.waiters import GRACE
from relevo.middleware.limit_context import limits_beside
from tests.support.histories import run_histories

if TYPE_CHECKING:
    from relevo.drivers.contract import Lease
    from tests.support.brokers import Broker

DEPTH = {"memory": (60, 40), "sqlite": (8, 40)}
DEPTH_OF_A_SERVER = (3, 25)
LEASE, QUEUE = 30.0, "limited"
MOST = {"overlap/one": 1, "overlap/two": 2}
RATE = Rate.of("3/10 seconds", "moving")

keys = st.sampled_from(sorted(MOST))
workers = st.sampled_from([0, 1])
picks = st.integers(0, 10_000)


class Histories(RuleBasedStateMachine):
    """One history of two processes. `running` are permits of living holders, `lost` those of dead
    ones.

    `reserved` are jobs of living workers without a permit yet. `until` says when the lease of a
    permit ends.
    """

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        broker.empty()
        self.broker, self.clock = broker, broker.clock
        self.clock.time = 1000 * (1 + self.clock() // 1000)  # windows begin alike in every history
        mine = limits_beside(broker.driver)
        self.sides = [
            (broker.driver, mine),
            (broker.other, mine if broker.name == "memory" else limits_beside(broker.other)),
        ]
        for view in mine.views():
            mine.clear(view.key)
        self.ids = itertools.count(1)
        self.reserved: dict[str, tuple[str, Holder, Lease]] = {}
        self.running: dict[str, tuple[str, Holder, Lease]] = {}
        self.lost: dict[str, tuple[str, Holder, Lease]] = {}
        self.until: dict[str, float] = {}
        self.passed: list[float] = []

    def some(self, held: dict, pick: int):
        return held[list(held)[pick % len(held)]]

    @initialize(worker=workers)
    def begin(self, worker):
        self.reserve(worker, 3)

    @rule(worker=workers, new=st.integers(0, 3))
    def reserve(self, worker, new):
        driver, _ = self.sides[worker]
        driver.put([NewJob(QUEUE, "{}", f"job-{next(self.ids)}") for _ in range(new)])
        for job in driver.reserve([QUEUE], 3, LEASE, "worker"):
            self.reserved[job.lease.token] = (
                "",
                Holder(job.lease.token, job.id, "task"),
                job.lease,
            )

    @precondition(lambda self: self.reserved)
    @rule(worker=workers, pick=picks, key=keys)
    def take(self, worker, pick, key):
        _, holder, lease = self.some(self.reserved, pick)
        driver, limits = self.sides[worker]
        del self.reserved[holder.token]
        wait = limits.take(key, MOST[key], holder)
        if wait:
            assert wait > 1
            driver.release([lease], wait)
        else:
            self.running[holder.token] = (key, holder, lease)
            self.until[holder.token] = self.clock() + LEASE

    @precondition(lambda self: self.running)
    @rule(worker=workers, pick=picks, gives_back=st.booleans())
    def finish(self, worker, pick, gives_back):
        key, holder, lease = self.some(self.running, pick)
        driver, limits = self.sides[worker]
        if gives_back:
            driver.hasten(limits.release(key, holder))
        driver.ack([lease])
        del self.running[holder.token]

    @precondition(lambda self: self.running)
    @rule(pick=picks)
    def die(self, pick):
        _, holder, _ = self.some(self.running, pick)
        self.lost[holder.token] = self.running.pop(holder.token)

    @precondition(lambda self: self.lost)
    @rule(worker=workers, pick=picks)
    def come_back(self, worker, pick):
        """A slow holder goes on if the lease is still its own, and gives everything back if not."""
        key, holder, lease = self.some(self.lost, pick)
        driver, limits = self.sides[worker]
        took = self.lost.pop(holder.token)
        if driver.extend([lease], LEASE):
            limits.release(key, holder)
        else:
            self.running[holder.token], self.until[holder.token] = took, self.clock() + LEASE

    @rule(seconds=st.sampled_from([0.1, 1.1, 9.8, LEASE + 1]))
    def pass_time(self, seconds):
        """The living renew before their leases end."""
        self.clock.forward(seconds)
        leases = [lease for _, _, lease in [*self.running.values(), *self.reserved.values()]]
        assert self.broker.driver.extend(leases, LEASE) == []
        self.until |= dict.fromkeys(self.running, self.clock() + LEASE)

    @rule(worker=workers, number=st.integers(1, 6))
    def hit(self, worker, number):
        if not self.sides[worker][1].hit("rate/mail", RATE, 1, f"mail-{number}"):
            self.passed.append(self.clock())

    @invariant()
    def never_more_than_there_are(self):
        held = [
            key
            for key, holder, _ in [*self.running.values(), *self.lost.values()]
            if self.until[holder.token] > self.clock()
        ]
        assert all(held.count(key) <= most for key, most in MOST.items())

    @invariant()
    def never_more_than_the_rate(self):
        assert len([at for at in self.passed if at > self.clock() - RATE.per]) <= RATE.amount

    def takes(self, limits, key, holder):
        """Take permits at once, except for the turns of called jobs that have died within this
        second.
        """
        for _ in range(5):
            if limits.take(key, MOST[key], holder) == 0:
                return
            self.clock.forward(GRACE)
        raise AssertionError(f"{key} is stuck: {limits.views(key)}")

    def teardown(self):
        """Everybody dies: after one lease all is free, and after one period the rate is."""
        driver, limits = self.sides[0]
        fresh = []
        for key, most in MOST.items():
            driver.put(
                [NewJob(f"fresh-{key}", "{}", f"fresh-{key}-{number}") for number in range(most)]
            )
            fresh += [
                (key, job) for job in driver.reserve([f"fresh-{key}"], most, 2 * LEASE, "worker")
            ]
        self.clock.forward(LEASE + 0.001)
        for key, job in fresh:
            self.takes(limits, key, Holder(job.lease.token, job.id, "task"))
        assert limits.hit("rate/mail", RATE, 1, "fresh") == 0
        self.broker.empty()


def test_whatever_happens_no_limit_is_exceeded_and_nothing_sticks(broker):
    examples, steps = DEPTH.get(broker.name, DEPTH_OF_A_SERVER)
    run_histories(lambda: Histories(broker), examples, steps)
