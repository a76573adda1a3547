"""The pool's children without a worker around them: killed, late, called back, renewed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import (
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)

from relevo.worker.pool import child
from relevo.worker.pool.child import Limits
from relevo.worker.pool.processes import BEHIND, Processes
from tests.support.waits import eventually


class Heard:
    """What the pool has said of each job, in order."""

    def __init__(self, pool: Processes) -> None:
        self.pool, self.ends, self.returned_unstarted = pool, [], []
        pool.give_back = self.returned_unstarted.append

    def call(self, target: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self.pool.apply_async(
            target, args, callback=self.ends.append, error_callback=self.ends.append, **options
        )

    def errors(self) -> list[type]:
        return [getattr(end, "type", end) for end in self.ends]


def do_nothing(*_arguments: Any) -> None:
    """As the initializer and the last step of a child."""


def wait_for(gate: str) -> str:
    while not Path(gate).exists():
        time.sleep(0.01)
    return gate


def note(file: str, line: str) -> None:
    with Path(file).open("a") as lines:
        lines.write(f"{line}\n")


def note_and_wait(file: str, gate: str) -> None:
    note(file, str(os.getpid()))
    wait_for(gate)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def make() -> Iterator[Callable[..., Heard]]:
    made: list[Processes] = []

    def make(size: int = 1, **limits: Any) -> Heard:
        pool = Processes(size, Limits(do_nothing, (), do_nothing, **limits), start_seconds=60)
        made.append(pool)
        return Heard(pool)

    yield make
    for pool in made:
        pool.terminate()


def until(heard: Heard, condition: Callable[[], Any]) -> None:
    def is_so() -> bool:
        heard.pool.collect()
        return bool(condition())

    eventually(is_so, lambda: repr(heard.ends))


def test_jobs_are_done_and_their_ends_are_told_once(make):
    heard = make(2)
    for number in range(200):
        heard.call(abs, -number)
    until(heard, lambda: len(heard.ends) == 200)
    heard.pool.finish()
    assert sorted(heard.ends) == list(range(200))


def test_a_value_that_can_not_be_pickled_is_the_error_of_its_job_alone(make):
    heard = make()
    heard.call(threading.Lock)
    heard.call(abs, -1)
    until(heard, lambda: len(heard.ends) == 2)
    assert heard.ends[1] == 1
    assert "lock" in str(heard.ends[0].exception)


def test_arguments_that_can_not_be_pickled_are_the_error_of_their_job_alone(make):
    heard = make()
    heard.call(abs, threading.Lock())
    heard.call(abs, -1)
    until(heard, lambda: len(heard.ends) == 2)
    assert 1 in heard.ends


def test_of_the_jobs_of_a_killed_child_only_the_one_that_it_ran_is_lost(make):
    heard = make()
    heard.call(die)
    for number in range(5):
        heard.call(abs, -number)
    until(heard, lambda: len(heard.ends) == 6)
    assert heard.errors().count(WorkerLostError) == 1
    assert [end for end in heard.ends if isinstance(end, int)] == list(range(5))


def test_a_child_that_is_killed_before_it_says_that_it_has_started_is_known_to_have(
    make, monkeypatch
):
    """Otherwise its job would be held, and its lease renewed, for as long as the worker lives."""
    take = child.Child._take

    def take_and_die(self, call):
        if call.target is abs:
            self._shared[child.TAKEN] = call.number
            die()
        take(self, call)

    monkeypatch.setattr(child.Child, "_take", take_and_die)
    heard = make()
    started = []
    heard.call(abs, -1, accept_callback=lambda pid, _since: started.append(pid))
    until(heard, lambda: heard.ends)
    assert heard.errors() == [WorkerLostError]
    assert len(started) == 1


@pytest.mark.parametrize(
    ("target", "arguments"),
    [(sys.exit, [3]), (sys.exit, [0]), (os.abort, []), (os._exit, [3]), (os._exit, [0])],
    ids=["exit 3", "exit 0", "abort", "_exit 3", "_exit 0"],
)
def test_a_job_that_ends_its_child_is_told_of_and_the_next_is_done(make, target, arguments):
    heard = make()
    heard.call(target, *arguments)
    heard.call(abs, -1)
    until(heard, lambda: len(heard.ends) == 2)
    assert 1 in heard.ends
    assert {SystemExit, WorkerLostError} & set(heard.errors())


def test_a_late_job_ends_and_those_behind_it_are_done_elsewhere(make, tmp_path):
    heard = make()
    heard.call(wait_for, str(tmp_path / "never"), timeout=0.2)
    heard.call(abs, -1)
    until(heard, lambda: len(heard.ends) == 2)
    assert heard.errors()[0] is TimeLimitExceeded
    assert heard.ends[1] == 1


def test_a_soft_limit_is_an_error_in_the_job(make, tmp_path):
    heard, told = make(), []
    heard.call(
        wait_for,
        str(tmp_path / "never"),
        soft_timeout=0.2,
        timeout_callback=lambda soft, timeout: told.append((soft, timeout)),
    )
    until(heard, lambda: heard.ends)
    assert heard.errors() == [SoftTimeLimitExceeded]
    assert told == [(True, 0.2)]


def test_a_killed_job_is_told_to_be_terminated(make, tmp_path):
    heard = make()
    file, gate = tmp_path / "pids", str(tmp_path / "never")
    heard.call(note_and_wait, str(file), gate)
    until(heard, file.exists)
    heard.pool.terminate_job(int(file.read_text()))
    until(heard, lambda: heard.ends)
    assert heard.errors() == [Terminated]


def test_what_waits_behind_a_long_job_goes_to_an_idle_child(make, tmp_path):
    heard = make(2)
    until(heard, lambda: all(each.is_ready for each in heard.pool.children))
    gate = tmp_path / "gate"
    heard.call(wait_for, str(gate))
    for number in range(9):
        heard.call(abs, -number)
    until(heard, lambda: sorted(heard.ends) == list(range(9)))
    gate.touch()
    until(heard, lambda: len(heard.ends) == 10)


def test_a_recall_gives_back_each_job_that_no_child_has_started_and_no_other(make, tmp_path):
    heard = make()
    file, gate = tmp_path / "started", tmp_path / "gate"
    works = [heard.call(note_and_wait, str(file), str(gate)) for _ in range(5)]
    until(heard, file.exists)
    assert heard.pool.recall() == 4
    gate.touch()
    until(heard, lambda: heard.ends)
    heard.pool.finish()
    assert heard.returned_unstarted == works[1:]
    assert len(file.read_text().splitlines()) == len(heard.ends) == 1


@pytest.mark.parametrize("round_", range(5))
def test_a_recall_in_the_midst_of_short_jobs_runs_none_twice_and_loses_none(make, tmp_path, round_):
    heard, file = make(2), tmp_path / "ran"
    file.touch()
    for number in range(BEHIND * 2):
        heard.call(note, str(file), str(number))
    while len(file.read_text().splitlines()) < round_ * 5:
        heard.pool.collect()
    heard.pool.close()
    heard.pool.finish()
    ran = file.read_text().split()
    assert len(ran) == len(set(ran))
    assert len(ran) + len(heard.returned_unstarted) == BEHIND * 2


def test_a_child_is_renewed_after_so_many_jobs(make, tmp_path):
    heard, file = make(jobs=2), tmp_path / "pids"
    file.touch()
    for _ in range(6):
        heard.call(_note_pid, str(file))
    until(heard, lambda: len(heard.ends) == 6)
    assert len(set(file.read_text().split())) == 3


def _note_pid(file: str) -> None:
    note(file, str(os.getpid()))


def test_a_pool_grows_and_shrinks_and_keeps_one_child(make, tmp_path):
    heard = make(1)
    heard.pool.grow(2)
    until(heard, lambda: sum(each.is_ready for each in heard.pool.children) == 3)
    heard.pool.shrink(2)
    until(heard, lambda: len(heard.pool.children) == 1)
    with pytest.raises(ValueError, match="expected to keep a process"):
        heard.pool.shrink(1)
    heard.call(abs, -1)
    until(heard, lambda: heard.ends == [1])


def test_a_busy_child_ends_its_job_before_a_pool_shrinks_or_restarts(make, tmp_path):
    heard = make(2)
    gates = [tmp_path / "a", tmp_path / "b"]
    until(heard, lambda: all(each.is_ready for each in heard.pool.children))
    for gate in gates:
        heard.call(wait_for, str(gate))
    before = {each.pid for each in heard.pool.children}
    heard.pool.restart()
    for gate in gates:
        gate.touch()
    until(heard, lambda: len(heard.ends) == 2)
    until(heard, lambda: len(heard.pool.children) == 2)
    assert not before & {each.pid for each in heard.pool.children}
    assert sorted(heard.ends) == sorted(map(str, gates))


def test_children_that_can_not_start_end_the_pool_instead_of_being_replaced_for_ever():
    broken = threading.Event()
    pool = Processes(1, Limits(sys.exit, (1,), do_nothing), on_broken=broken.set)
    try:
        eventually(lambda: (pool.collect(), broken.is_set())[1])
    finally:
        pool.terminate()
