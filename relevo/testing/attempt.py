"""The result of one attempt of a job that a fake has run, with assertions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relevo.job.outcome import Cancelled, Completed, Failed, Outcome, Released, Retry
from relevo.testing.canvas_shapes import call
from relevo.testing.dispatched import Dispatched

__tracebackhide__ = True

#: Stands for any delay or result.
ANY: Any = object()

Wrong = type[BaseException] | BaseException | str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: its job, how it ended, and what it did before.

    `outcome` is None if the attempt ended in a way that Relevo has no outcome for; `state` is then
    IGNORED, REJECTED or REVOKED (the job had expired). `progress`: its reports, as (done, total).
    `dispatched`: the jobs that the attempt dispatched.
    """

    job: Dispatched
    state: str
    outcome: Outcome | None
    progress: tuple[tuple[float, float], ...] = ()
    dispatched: tuple[Dispatched, ...] = ()

    @property
    def result(self) -> Any:
        """What the job returned; None if it didn't complete."""
        return self.outcome.result if isinstance(self.outcome, Completed) else None

    @property
    def error(self) -> BaseException | None:
        """The error of an attempt that failed or is retried."""
        return self.outcome.error if isinstance(self.outcome, (Retry, Failed)) else None

    def assert_completed(self, result: Any = ANY) -> None:
        """The attempt returned; if `result` is given, it returned that."""
        completed = isinstance(self.outcome, Completed)
        said = "complete" + ("" if result is ANY else f" with {result!r}")
        self._expect(completed and (result is ANY or self.result == result), said)

    def assert_not_completed(self) -> None:
        self._expect(not isinstance(self.outcome, Completed), "not complete")

    def assert_released(self, delay: float = ANY) -> None:
        """The job released itself; if `delay` is given, for that many seconds."""
        released = isinstance(self.outcome, Released) and delay in (ANY, self.outcome.seconds)
        self._expect(released, f"be released{_wait(delay)}")

    def assert_not_released(self) -> None:
        self._expect(not isinstance(self.outcome, Released), "not be released")

    def assert_retried(self, delay: float = ANY, with_: Wrong | None = None) -> None:
        """The attempt failed and the job will run again: after `delay` seconds and because of
        `with_`, where they are given.
        """
        retried = isinstance(self.outcome, Retry) and delay in (ANY, self.outcome.seconds)
        self._expect(
            retried and _is(self.error, with_), f"be retried{_wait(delay)}{_because(with_)}"
        )

    def assert_not_retried(self) -> None:
        self._expect(not isinstance(self.outcome, Retry), "not be retried")

    def assert_failed(self, with_: Wrong | None = None) -> None:
        """The job failed for good. `with_`: the error's class, an equal error, or a part of its
        text.
        """
        self._expect(
            isinstance(self.outcome, Failed) and _is(self.error, with_), f"fail{_because(with_)}"
        )

    def assert_not_failed(self) -> None:
        self._expect(not isinstance(self.outcome, Failed), "not fail")

    def assert_cancelled(self, reason: str = "") -> None:
        """The job was skipped, and `reason` is part of the reason."""
        cancelled = isinstance(self.outcome, Cancelled) and reason in self.outcome.reason
        self._expect(cancelled, f"be cancelled{f' with {reason!r}' if reason else ''}")

    def assert_progress(self, *reports: tuple[float, float]) -> None:
        """The attempt reported exactly this progress, in this order."""
        self._expect(
            self.progress == reports,
            f"report progress {list(reports)!r}, got {list(self.progress)!r}",
        )

    def assert_dispatched(self, task: Any, times: int | None = None) -> None:
        """The attempt dispatched a job of this task, or exactly `times` of them."""
        name = task if isinstance(task, str) else task.name
        found = [record for record in self.dispatched if record.task == name]
        got = ", ".join(map(str, self.dispatched)) or "nothing"
        fits = len(found) == times if times is not None else bool(found)
        self._expect(
            fits,
            f"dispatch {name!r}{'' if times is None else f' {times} times'}, it dispatched {got}",
        )

    def _expect(self, holds: object, expected: str) -> None:
        if not holds:
            job = self.job
            which = f"attempt {job.attempt} of {call(job.task, job.args, job.kwargs)}"
            raise AssertionError(f"expected {which} to {expected}; it {self}") from self.error

    def __str__(self) -> str:
        match self.outcome:
            case Completed(result=result):
                return f"completed with {result!r}"
            case Cancelled(reason=reason):
                return f"was cancelled: {reason}"
            case Released(seconds=seconds):
                return f"was released for {seconds:g} s"
            case Retry(seconds=seconds, error=error):
                return f"is to be retried after {seconds:g} s, because of {error!r}"
            case Failed(error=error):
                return f"failed with {error!r}"
        return f"ended as {self.state}"


def _is(error: BaseException | None, wanted: Wrong | None) -> bool:
    if wanted is None or error is None:
        return wanted is None
    if isinstance(wanted, str):
        return wanted in str(error)
    if isinstance(wanted, type):
        return isinstance(error, wanted)
    return type(error) is type(wanted) and error.args == wanted.args


def _because(wanted: Wrong | None) -> str:
    if wanted is None:
        return ""
    return f" with {wanted.__name__}" if isinstance(wanted, type) else f" with {wanted!r}"


def _wait(delay: Any) -> str:
    return "" if delay is ANY else f" for {delay:g} s"
