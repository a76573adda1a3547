"""Random histories of beats that start, die half way, and have wrong clocks: each tick is run once.

The entry catches up on all ticks (`all`), so that a missing one shows.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relevo.schedule import claim
from relevo.store import schedules
from tests.support.clockwork import Clockwork
from tests.support.histories import run_histories

EVERY = 60.0
ENTRY = {
    "often": {"task": "shop.count", "schedule": EVERY, "catch_up": "all", "catch_up_limit": 1000}
}
STEPS = ("claim", "record", "build_sending", "advance", "after_commit")

beats = st.integers(0, 9)


class Killed(BaseException):
    """As kill -9."""


class Histories(RuleBasedStateMachine):
    """One history. `up`: the beats that live, each with how far its clock is ahead."""

    def __init__(self, work: Clockwork) -> None:
        super().__init__()
        work.empty()
        self.work, self.app = work, work.deployed(**ENTRY)
        self.up = []
        self.first = self.work.clock()
        self.paused = False
        self.gaps: list[tuple[float, float]] = []
        self.come(ahead=0.0)

    @precondition(lambda self: len(self.up) < 3)
    @rule(ahead=st.sampled_from([0.0, 0.0, 2.0, 45.0]))
    def come(self, ahead):
        beat = self.work.beat(self.app)
        beat.now = lambda: self.work.clock() + ahead
        self.up.append(beat)

    @rule(seconds=st.sampled_from([1, 30, 60, 61, 600]))
    def time_passes(self, seconds):
        self.work.clock.forward(seconds)

    @precondition(lambda self: self.up)
    @rule(which=beats)
    def tick(self, which):
        self.up[which % len(self.up)].tick()

    @precondition(lambda self: self.up)
    @rule(which=beats, step=st.sampled_from(STEPS), after=st.booleans())
    def die_in_a_turn(self, which, step, after):
        beat = self.up.pop(which % len(self.up))
        place = {"build_sending": claim, "after_commit": type(beat.delivery)}.get(step, schedules)
        real = getattr(place, step)

        def killed(*args):
            if after:
                real(*args)
            raise Killed

        setattr(place, step, killed)
        try:
            beat.tick()
        except Killed:
            pass
        finally:
            setattr(place, step, real)

    @precondition(lambda self: not self.paused)
    @rule()
    def pause(self):
        """Every beat ticks first, so that all due ticks are run before the pause."""
        self.settle()
        schedules.pause(self.work.store, "often", "", self.work.clock(), None)
        self.paused, self.since = True, self.work.clock()

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self):
        schedules.resume(self.work.store, "often", self.work.clock())
        self.paused = False
        self.gaps.append((self.since, self.work.clock()))

    def settle(self):
        beat = self.work.beat(self.app)
        for _ in range(3):  # a portion of the missed ticks each
            beat.tick()

    @invariant()
    def each_run_has_its_job_and_no_tick_has_two(self):
        runs = self.work.runs()
        assert len({run.tick for run in runs}) == len(runs)
        assert self.work.jobs() == sorted(run.job_id for run in runs)

    def teardown(self):
        """No tick is missing, except those within a pause."""
        if self.paused:
            self.resume()
        self.work.clock.forward(EVERY)
        self.settle()
        dues = {run.due for run in self.work.runs()}
        now = self.work.clock()
        tick = (self.first // EVERY + 1) * EVERY
        while tick <= now:
            in_a_pause = any(begin < tick <= end for begin, end in self.gaps)
            assert tick in dues or in_a_pause, tick
            tick += EVERY


def test_whatever_happens_to_the_beats_each_tick_is_run_once(sqlite_url, tmp_path):
    work = Clockwork(sqlite_url, tmp_path)
    run_histories(lambda: Histories(work), examples=8, steps=20)
    work.empty()
