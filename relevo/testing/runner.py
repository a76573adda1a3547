"""Runs the jobs that a fake has taken: one, or all in the order in which a worker would run them.

Jobs run in the calling thread. Nothing waits: delayed, retried and released jobs are due by
Relevo's clock, and `travel` moves that clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from relevo.errors import FakeError, OptionError
from relevo.job.outcome import Failed
from relevo.testing import attempt_run, patching
from relevo.testing.attempt import Attempt
from relevo.testing.backlog import Backlog
from relevo.testing.dispatched import Dispatched
from relevo.testing.fake_batch import FakeBatch
from relevo.testing.producer import RecordingProducer
from relevo.testing.records import Records
from relevo.testing.unique_keys import UniqueKeys

__tracebackhide__ = True

# A job that is released this often within one drain would never end.
MOST_ATTEMPTS = 100


class Runner(Records, ABC):
    """Runs jobs, moves the clock, and asserts how runs ended."""

    def __init__(self, app: Any) -> None:
        super().__init__(app)
        self._backlog = Backlog()
        self._keys = UniqueKeys()
        self._running: set[str] = set()
        self._attempts: list[Attempt] = []
        self._undo: ExitStack | None = None

    # --- running ----------------------------------------------------------------------------------
    def run(self, task: Any, *args: Any, **kwargs: Any) -> Attempt:
        """Run one attempt of a job with these arguments at once. It doesn't count as dispatched."""
        return self.job(task, args, kwargs)

    def job(
        self,
        task: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        attempt: int = 1,
        batch: FakeBatch | None = None,
        **options: Any,
    ) -> Attempt:
        """Like `run`, with the options of `apply_async`, as a later attempt, or with a batch."""
        self._must_be_active()
        written: list[Dispatched] = []
        name = self.name_of(task)
        producer = RecordingProducer(written.append)
        self.app.tasks[name].apply_async(
            tuple(args), dict(kwargs or {}), producer=producer, retries=attempt - 1, **options
        )
        (record,) = written
        patching.batches[record.id] = batch
        try:
            done, _ = self._attempt(record)
        finally:
            del patching.batches[record.id]
        self._backlog.forget(record.id)
        return done

    def drain(
        self,
        queue: str | Sequence[str] | None = None,
        *,
        limit: int | None = None,
        including_delayed: bool = False,
    ) -> list[Attempt]:
        """Run the dispatched jobs, and the jobs that these dispatch, until none is due or `limit`
        attempts have run. Returns every attempt.

        `queue`: one queue, or several in strict order; without it, all of them.
        """
        self._must_be_active()
        queues = [queue] if isinstance(queue, str) else queue
        made: list[Attempt] = []
        while limit is None or len(made) < limit:
            record = self._backlog.take(queues, self._declared(), delayed=including_delayed)
            if record is None:
                break
            made.append(self._run_next(record, made))
        return made

    def travel(self, seconds: float) -> None:
        """Move Relevo's clock forward until the fake ends: delays and deadlines pass. Python's own
        clock is not changed.
        """
        self._must_be_active()
        if seconds < 0:
            raise OptionError(f"expected a number of seconds from 0, got {seconds!r}")
        if self not in patching.clock_offsets and self._undo is not None:
            self._undo.enter_context(patching.clock_now)
            self._undo.callback(patching.clock_offsets.pop, self)
        patching.clock_offsets[self] = patching.clock_offsets.get(self, 0) + seconds

    def pending(self, queue: str | None = None) -> list[Dispatched]:
        """The jobs that have not run yet, released ones included, on one queue or on all."""
        return [record for record in self._backlog.waiting() if queue in (None, record.queue)]

    def attempts(self, task: Any = None) -> list[Attempt]:
        """Every attempt that has run, of all tasks or of one."""
        name = None if task is None else self.name_of(task)
        return [attempt for attempt in list(self._attempts) if name in (None, attempt.job.task)]

    # --- assertions about running -----------------------------------------------------------------
    def assert_nothing_pending(self, queue: str | None = None) -> None:
        """Every dispatched job has run."""
        left = "\n".join(f"  {record}" for record in self.pending(queue))
        if left:
            where = f" on {queue!r}" if queue else ""
            raise AssertionError(f"expected no job to be pending{where}\npending:\n{left}")

    def assert_nothing_failed(self) -> None:
        """No job has failed for good."""
        failed = [attempt for attempt in self.attempts() if isinstance(attempt.outcome, Failed)]
        if failed:
            lines = "\n".join(f"  {attempt.job}: {attempt}" for attempt in failed)
            raise AssertionError(f"expected no job to fail\nfailed:\n{lines}") from failed[0].error

    # --- one attempt ------------------------------------------------------------------------------
    def _run_next(self, record: Dispatched, made: list[Attempt]) -> Attempt:
        if sum(attempt.job.id == record.id for attempt in made) >= MOST_ATTEMPTS:
            raise FakeError(
                f"{record.task!r} was released {MOST_ATTEMPTS} times in one drain; give it a limit."
            )
        done, ended = self._attempt(record)
        if (again := attempt_run.released(record, ended)) is not None:
            self._backlog.add(again)
        else:
            with self._lock:
                self._keys.free(record.id)
            self.after_last_attempt(done)
        return done

    @abstractmethod
    def after_last_attempt(self, attempt: Attempt) -> None:
        """Called when the last attempt of a dispatched job has ended."""

    def _attempt(self, record: Dispatched) -> tuple[Attempt, Any]:
        with self._lock:
            self._running.add(record.id)
            self._keys.on_attempt_start(record)
        try:
            done, ended = attempt_run.run(self.app, record, self._children)
        finally:
            with self._lock:
                self._running.discard(record.id)
        self._attempts.append(done)
        return done, ended

    def _children(self, job_id: str) -> tuple[Dispatched, ...]:
        return tuple(record for record in self.all() if record.parent == job_id)

    def _declared(self) -> list[str]:
        """The queues of the app, in the order of a worker without -Q."""
        return list(self.app.amqp.queues)

    def _must_be_active(self) -> None:
        if self._undo is None:
            raise FakeError("This fake is not active; run its jobs inside its `with`.")
