"""Selects jobs in the broker: by id, or by queue, task and tag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from relevo.cli.message_fields import tags_of, task_of
from relevo.drivers.contract import Driver, JobView


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Jobs of a queue, of a task, with a tag; None matches any."""

    queue: str | None
    task: str | None
    tag: str | None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.queue, self.task, self.tag))

    def matches(self, job: JobView) -> bool:
        return (
            self.queue in (None, job.queue)
            and (self.task is None or self.task == task_of(job.payload))
            and (self.tag is None or self.tag in tags_of(job.payload))
        )


def every_job(driver: Driver) -> Iterator[JobView]:
    """Every job in the broker, in no order, each once."""
    seen: set[tuple[str, float]] = set()
    after, more = "", True
    while more:
        page, after = driver.scan(after)
        for job in page:
            if (job.id, job.created_at) not in seen:
                seen.add((job.id, job.created_at))
                yield job
        more = after != ""


def select(driver: Driver, ids: Sequence[str], which: JobFilter) -> tuple[list[JobView], list[str]]:
    """The selected jobs in the broker, and the ids that no job there has. Raises UsageError."""
    if bool(ids) == bool(which):
        raise click.UsageError("expected ids, or one or more of --queue, --task and --tag")
    if which:
        return [job for job in every_job(driver) if which.matches(job)], []
    found = driver.find(ids)
    known = {job.id for job in found}
    return found, [id_ for id_ in dict.fromkeys(ids) if id_ not in known]
