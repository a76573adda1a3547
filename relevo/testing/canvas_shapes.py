"""A chain, a group or a chord as one plain shape, both for expectations and for recorded jobs.

    a | group(b, c) | d      is for Celery      a, chord([b, c], d)
                             and here           Step a, Branch(b, c), Step d

Celery rewrites a canvas when it sends it: a group that is followed by a task becomes a chord, a
group of one becomes its only member. So both sides are brought to this shape and then compared. A
task without arguments in an expectation matches any arguments. A batch that is a link of a chain is
sent as a job that opens it; here it is a Branch of its members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain as joined
from typing import Any

from celery.canvas import Signature, _chain, chord, group, maybe_signature

from relevo.batches.spec import BatchSpec
from relevo.errors import OptionError
from relevo.job.membership import OPEN_BATCH_TASK

# The kind of a Branch that is a batch.
BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Step:
    """One job. If `args` and `kwargs` are None, any arguments match."""

    task: str
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] | None = None

    def fits(self, other: Element) -> bool:
        if isinstance(other, Branch):  # a batch by the name of the task that opens it
            return other.kind == BATCH and self == Step(OPEN_BATCH_TASK)
        same = isinstance(other, Step) and self.task == other.task
        return same and (
            self.args is None or (self.args, self.kwargs) == (other.args, other.kwargs)
        )

    def __str__(self) -> str:
        return self.task if self.args is None else call(self.task, self.args, self.kwargs or {})


@dataclass(frozen=True, slots=True)
class Branch:
    """Jobs side by side: a group or a batch. Each member is a chain, usually of one step."""

    members: tuple[Steps, ...]
    kind: str = "group"

    def fits(self, other: Element) -> bool:
        if not isinstance(other, Branch) or self.kind != other.kind:
            return False
        if len(self.members) != len(other.members):
            return False
        return all(map(fit, self.members, other.members))

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(map(shown, self.members))})"


Element = Step | Branch
Steps = tuple[Element, ...]


def steps(given: Any) -> Steps:
    """The steps of a task, its name, a signature, a canvas, or a list of any of them (a chain)."""
    if isinstance(given, str):
        return (Step(given),)
    if isinstance(given, BatchSpec):
        return (_batch(given.members),)
    if isinstance(given, dict):
        return _of_signature(given if isinstance(given, Signature) else maybe_signature(given))
    # Before the test for an iterable: Celery's proxy of a task claims to be one.
    if isinstance(name := getattr(given, "name", None), str):
        return (Step(name),)
    if isinstance(given, Iterable):
        return tuple(joined.from_iterable(map(steps, given)))
    raise OptionError(f"expected a task, its name, a signature or a list of them, got {given!r}")


def branch(members: Iterable[Any]) -> Steps:
    """The steps of a group with these members."""
    parts = tuple(map(steps, members))
    return parts[0] if len(parts) == 1 else (Branch(parts),)


def _of_signature(signature: Any) -> Steps:
    if isinstance(signature, chord):
        return (*branch(getattr(signature.tasks, "tasks", signature.tasks)), *steps(signature.body))
    if isinstance(signature, group):
        return branch(signature.tasks)
    if isinstance(signature, _chain):
        return steps(list(signature.tasks))
    return (step(signature["task"], signature.args, signature.kwargs),)


def step(task: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Element:
    """The step of a job: itself, or the batch that it opens."""
    given = tuple(args)
    if task == OPEN_BATCH_TASK and given and isinstance(given[0], Mapping):
        return _batch(given[0]["members"])
    return Step(task, given, dict(kwargs))


def _batch(members: Iterable[Any]) -> Branch:
    return Branch(tuple(map(steps, members)), BATCH)


def fit(expected: Steps, actual: Steps) -> bool:
    """Whether these are exactly the expected steps, in their order."""
    return len(expected) == len(actual) and all(
        one.fits(other) for one, other in zip(expected, actual, strict=True)
    )


def shown(parts: Steps) -> str:
    """The steps on one line."""
    return " | ".join(map(str, parts))


def names(parts: Steps) -> set[str]:
    """Every task in the steps."""
    return {name for part in parts for name in _names(part)}


def _names(part: Element) -> set[str]:
    return {part.task} if isinstance(part, Step) else set().union(*map(names, part.members))


def call(task: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    """A job written as a call: `images.process(7, size=150)`."""
    said = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"{task}({', '.join(said)})"
