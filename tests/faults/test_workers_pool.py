"""The pool itself, without a worker around it: children that are killed at the worst moment."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from billiard.exceptions import WorkerLostError

from relevo.job import prefork
from tests.waiting import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator


class Dying(prefork.Worker):
    """A child that is killed when it has taken a job from the pipe and not yet said so."""

    def _refusing(self, *args: Any) -> Any:
        wait = super()._refusing(*args)

        def die() -> Any:
            request = wait()
            if request:
                os.kill(os.getpid(), signal.SIGKILL)
            return request

        return die


class DyingPool(prefork.Pool):
    Worker = Dying


@pytest.fixture
def pool() -> Iterator[prefork.Pool]:
    made = DyingPool(1, lost_worker_timeout=0.1)
    yield made
    made.terminate()
    made.join()


def test_a_job_taken_by_a_child_that_could_not_say_so_is_known_to_be_lost(pool: prefork.Pool):
    """Otherwise it would be held, and its lease renewed, for as long as the worker lives."""
    job = pool.apply_async(abs, (-1,))
    job.wait(LONG)
    assert job.ready()
    assert job._value.type is WorkerLostError
