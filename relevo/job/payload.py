"""What travels with a job besides its arguments (the baton), and the job as people see it.

    dispatch -> header "relevo" -> attempt 1 -> retry or release -> header -> attempt 2 -> …

Each attempt hands the baton to the next, like runners in a relay. It is a small JSON object in the
message, so no worker keeps anything about a job in memory. Celery's header `retries` counts the
attempts; the baton says the rest. It comes from outside, so a field of the wrong type is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from celery.exceptions import WorkerLostError

from relevo.database.text import storable
from relevo.drivers.message_codec import HEADER
from relevo.errors import OptionError
from relevo.job import error_report
from relevo.job.task_protocol import TaskLike

__all__ = ["HEADER", "Baton", "Job", "baton_of", "is_unique", "job_of", "parse", "tags"]


@dataclass(frozen=True, slots=True)
class Baton:
    """What one attempt hands to the next.

    `deadline`: POSIX seconds; no attempt starts after it. `exceptions`: attempts that went wrong.
    `lost`: those of them that lost their process. `verdict`: the error of a job that has failed and
    whose hook is still to run. `override`: the options given at the dispatch. `tags`: None if they
    are not computed yet. `errors`: reports of the attempts that went wrong (error_report.py).
    `origin`: the number of the failed job that this one retries, or 0. `unique`: its unique key and
    what goes with it (relevo/dispatch/unique.py). `fair`: the key that takes turns in its queue.
    """

    deadline: float | None = None
    exceptions: int = 0
    lost: int = 0
    verdict: Mapping[str, Any] | None = None
    override: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] | None = None
    errors: Sequence[Mapping[str, Any]] = ()
    origin: int = 0
    unique: Mapping[str, Any] | None = None
    fair: str | None = None

    def after_error(self, error: BaseException) -> Baton:
        """The baton after an attempt that ended in `error`."""
        return replace(
            self,
            exceptions=self.exceptions + 1,
            lost=self.lost + isinstance(error, WorkerLostError),
        )

    def with_error(self, attempt: int, error: BaseException, traceback: str | None = None) -> Baton:
        """The baton with one more error. Of too many the first and the latest are kept."""
        errors = [*self.errors, error_report.report(attempt, error, traceback)]
        return replace(self, errors=tuple(errors[:1] + errors[1:][-error_report.MAX_ERRORS :]))

    def header(self) -> dict[str, Any]:
        """The baton as JSON, without its empty fields."""
        return {
            name: value for name, value in asdict(self).items() if value not in (None, 0, {}, ())
        }


def baton_of(request: Any) -> Baton:
    """The baton of the message behind this request (Celery's context)."""
    return baton_in(request.headers or {})


def baton_in(headers: Mapping[str, Any]) -> Baton:
    """The baton in the headers of a message; an empty one if there is none."""
    sent = headers.get(HEADER)
    return parse(sent) if isinstance(sent, dict) else Baton()


def parse(sent: Mapping[str, Any]) -> Baton:
    """The baton from its JSON. Fields of the wrong type are left out."""
    return Baton(
        **{name: sent[name] for name, kinds in _SHAPES.items() if isinstance(sent.get(name), kinds)}
    )


_SHAPES: dict[str, Any] = {
    "deadline": (int, float),
    "exceptions": int,
    "lost": int,
    "verdict": dict,
    "override": dict,
    "tags": (list, tuple),
    "errors": (list, tuple),
    "origin": int,
    "unique": dict,
    "fair": str,
}


def is_unique(options: Mapping[str, Any]) -> bool:
    """Whether these options of `apply_async` give the job a unique key."""
    sent = (options.get("headers") or {}).get(HEADER)
    return isinstance(sent, dict) and "unique" in sent


@dataclass(frozen=True, slots=True)
class Job:
    """One dispatched run of a task, as the `failed` hook gets it.

    `queue`: None for a job that runs without a broker. `deadline`: POSIX seconds.
    """

    id: str
    task: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    queue: str | None
    attempt: int
    exceptions: int
    deadline: float | None
    tags: tuple[str, ...]


def job_of(task: TaskLike, request: Any, baton: Baton) -> Job:
    """The job behind a request (Celery's context)."""
    args, kwargs = tuple(request.args or ()), dict(request.kwargs or {})
    return Job(
        id=request.id,
        task=task.name,
        args=args,
        kwargs=kwargs,
        queue=(request.delivery_info or {}).get("routing_key"),
        attempt=request.retries + 1,
        exceptions=baton.exceptions,
        deadline=baton.deadline,
        tags=tags(task, args, kwargs) if baton.tags is None else tuple(baton.tags),
    )


def tags(
    task: TaskLike, args: tuple[Any, ...], kwargs: Mapping[str, Any], given: Any = None
) -> tuple[str, ...]:
    """The tags of a job with these arguments. `given`: instead of the task's option `tags`.

    Raises OptionError if the callable raises.
    """
    given = task.options.tags if given is None else given
    if not callable(given):
        return tuple(map(storable, given))
    try:
        return tuple(map(storable, given(*args, **kwargs)))
    except Exception as error:  # the task's own callable may raise anything
        raise OptionError(f"the tags of task {task.name!r} can't be made: {error!r}") from error
