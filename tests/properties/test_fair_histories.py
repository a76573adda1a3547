"""Random histories of a fair queue: no key waits for more than the turns of the others, no job is
lost.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relevo.drivers.contract import NewJob, State

if TYPE_CHECKING:
    from tests.support.brokers import Broker

# How many histories. A server's step costs a hundred times a step in memory.
HISTORIES = {"memory": 100, "sqlite": 15}
OF_A_SERVER = 6

KEYS = "abc"
LEASE = 30
puts = st.tuples(st.just("put"), st.sampled_from(KEYS), st.integers(1, 12))
others = st.tuples(
    st.sampled_from(["take", "take", "back", "die", "ack", "later"]), st.just(""), st.integers(1, 6)
)
steps = st.lists(st.one_of(puts, others), min_size=4, max_size=25)


class History:
    """One queue, its waiting jobs by key, and how often each key was served while two of them had
    jobs.
    """

    def __init__(self, broker: Broker) -> None:
        self.driver, self.other, self.clock = broker.driver, broker.other, broker.clock
        self.numbers = itertools.count()
        self.waiting: Counter[str] = Counter()
        self.alive: dict[str, str] = {}
        self.held: list = []
        self.served = dict.fromkeys(itertools.combinations(KEYS, 2), (0, 0))
        self.orderly = True  # nothing has gone back: what does keeps its turn, or gets a new one

    def put(self, key: str, number: int) -> None:
        jobs = [
            NewJob("fair", "{}", f"{key}{next(self.numbers)}", fair_key=key) for _ in range(number)
        ]
        self.driver.put(jobs)
        self.alive |= {job.id: key for job in jobs}
        self.waiting[key] += number

    def take(self, _key: str, number: int) -> None:
        for _ in range(number):
            taken = self.other.reserve(["fair"], 1, LEASE, "worker")
            assert len(taken) == min(1, self.waiting.total())
            for job in taken:
                key = self.alive[job.id]
                self._count(key)
                self.waiting[key] -= 1
                self.held.append(job)

    def _count(self, key: str) -> None:
        for pair, (first, second) in self.served.items():
            if not all(self.waiting[one] for one in pair):
                self.served[pair] = (0, 0)
            else:
                self.served[pair] = (first + (key == pair[0]), second + (key == pair[1]))
                assert not self.orderly or abs(self.served[pair][0] - self.served[pair][1]) <= 2

    def back(self, _key: str, number: int) -> None:
        self._free(number, self.driver.release)

    def later(self, _key: str, number: int) -> None:
        def release(leases) -> None:
            self.driver.release(leases, delay=5)
            self.clock.forward(5)

        self._free(number, release)

    def die(self, _key: str, _number: int) -> None:
        def end(_leases) -> None:
            self.clock.forward(LEASE)
            self.driver.rescue()

        self._free(len(self.held), end)

    def ack(self, _key: str, number: int) -> None:
        for job in self.held[:number]:
            del self.alive[job.id]
        assert self.driver.ack([job.lease for job in self.held[:number]]) == len(self.held[:number])
        del self.held[:number]

    def _free(self, number: int, how) -> None:
        gone, self.held = self.held[:number], self.held[number:]
        if gone:
            self.orderly = False
            how([job.lease for job in gone])
            self.waiting.update(self.alive[job.id] for job in gone)

    def adds_up(self) -> None:
        sizes = self.other.sizes("fair")
        assert (sizes.pending, sizes.delayed, sizes.reserved) == (
            self.waiting.total(),
            0,
            len(self.held),
        )
        seen = [view.id for state in State for view in self.driver.peek("fair", state, 1000)]
        assert sorted(seen) == sorted(self.alive)


def test_keys_are_served_alike_and_no_job_is_lost(broker: Broker):
    @settings(
        max_examples=HISTORIES.get(broker.name, OF_A_SERVER),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(steps)
    def live(history) -> None:
        broker.empty()
        now = History(broker)
        for verb, key, number in history:
            getattr(now, verb)(key, number)
            now.adds_up()
        now.clock.forward(LEASE)
        taken = now.other.reserve(["fair"], 10_000, LEASE, "last")
        assert sorted(job.id for job in taken) == sorted(now.alive)

    live()
