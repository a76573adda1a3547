"""Assertions about chains, groups, chords and callbacks.

A dispatched chain is its first job with the steps that follow. A group is the jobs of its members.
A chord is a group whose results go to further steps. An expectation is written as a list: a task or
its name matches any arguments, a signature exactly its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from relevo.testing.canvas_shapes import Branch, Steps, fit, names, shown, steps
from relevo.testing.dispatched import Dispatched
from relevo.testing.records import Records, Where

__tracebackhide__ = True


@dataclass(frozen=True, slots=True)
class DispatchedGroup:
    """The jobs of one group, in its order. `chord`: the steps that get their results, if any."""

    id: str
    jobs: tuple[Dispatched, ...]

    @property
    def chord(self) -> Steps:
        return self.jobs[0].chord

    @property
    def members(self) -> Branch:
        return Branch(tuple(job.steps for job in self.jobs))


class GroupAssertions(Records):
    """Assertions about jobs that belong together."""

    def groups(self) -> list[DispatchedGroup]:
        """Every group that was dispatched, chords included, oldest first."""
        found: dict[str, list[Dispatched]] = {}
        for record in self.all():
            if record.group:
                found.setdefault(record.group, []).append(record)
        return [DispatchedGroup(group, _first_jobs(jobs)) for group, jobs in found.items()]

    def assert_chained(self, expected: Iterable[Any], *, where: Where | None = None) -> None:
        """A chain of exactly these steps was dispatched. A step may be a group or a chord."""
        parts = self._known_steps(expected)
        found = [record for record in self.all() if record.chain and fit(parts, record.steps)]
        fitting = [record for record in found if where is None or where(record)]
        also = " where the predicate is true" if where else ""
        self.expect(fitting, f"the chain {shown(parts)} to be dispatched{also}")

    def assert_dispatched_without_chain(self, task: Any, **matching: Any) -> None:
        """Dispatched, at least once without a following step."""
        found = [record for record in self.dispatched(task, **matching) if not record.chain]
        self.expect(found, f"{self.name_of(task)!r} to be dispatched without a chain")

    def assert_nothing_chained(self) -> None:
        """No chain was dispatched, neither Celery's nor one of `app.chain`."""
        self.expect(not any(record.chain for record in self.all()), "no chain to be dispatched")

    def assert_grouped(
        self,
        expected: Iterable[Any] | None = None,
        *,
        where: Callable[[DispatchedGroup], object] | None = None,
    ) -> None:
        """A group of exactly these members was dispatched, also as part of a chord.

        A member may be a list: a chain.
        """
        parts = None if expected is None else self._branch(expected)
        self._some_group(parts, None, where)

    def assert_chord(
        self,
        expected: Iterable[Any],
        body: Any,
        *,
        where: Callable[[DispatchedGroup], object] | None = None,
    ) -> None:
        """A group of exactly these members was dispatched, and its results go to `body`."""
        self._some_group(self._branch(expected), self._known_steps(body), where)

    def assert_group_count(self, count: int) -> None:
        """Exactly `count` groups were dispatched, chords included."""
        self.expect(
            len(self.groups()) == count,
            f"{count} groups to be dispatched, got {len(self.groups())}",
        )

    def assert_nothing_grouped(self) -> None:
        """No group and no chord was dispatched."""
        self.expect(not self.groups(), "no group to be dispatched")

    def assert_linked(self, task: Any, callback: Any) -> None:
        """Dispatched with this callback (`link`)."""
        (step,) = self._known_steps(callback)
        found = [
            record
            for record in self.dispatched(task)
            if any(step.fits(link) for link in record.links)
        ]
        self.expect(found, f"{self.name_of(task)!r} to be dispatched with the callback {step}")

    def _some_group(
        self,
        parts: Branch | None,
        body: Steps | None,
        where: Callable[[DispatchedGroup], object] | None,
    ) -> None:
        found = [
            group
            for group in self.groups()
            if (parts is None or parts.fits(group.members))
            and (body is None or fit(body, group.chord))
            and (where is None or where(group))
        ]
        said = f"{parts or 'a group'} to be dispatched" + (
            f", its results to {shown(body)}" if body else ""
        )
        self.expect(found, said + (", where the predicate is true" if where else ""))

    def _branch(self, expected: Iterable[Any]) -> Branch:
        return Branch(tuple(self._known_steps(member) for member in expected))

    def _known_steps(self, expected: Any) -> Steps:
        parts = steps(expected)
        for name in sorted(names(parts)):
            self.name_of(name)
        return parts


def _first_jobs(jobs: list[Dispatched]) -> tuple[Dispatched, ...]:
    """The first job of each member. Celery gives the group's id also to a chord's body and to the
    later links of a chain, which members dispatch.
    """
    ids = {job.id for job in jobs}
    return tuple(job for job in jobs if job.parent not in ids)
