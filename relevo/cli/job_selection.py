"""The jobs in the broker that somebody means: by id, or by what they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from relevo.cli.message_fields import tags_of, task_of
from relevo.drivers.contract import Driver, JobView


@dataclass(frozen=True, slots=True)
class Which:
    """Which jobs: of a queue, of a task, with a tag; None: any."""

    queue: str | None
    task: str | None
    tag: str | None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.queue, self.task, self.tag))

    def fits(self, job: JobView) -> bool:
        return (
            self.queue in (None, job.queue)
            and (self.task is None or self.task == task_of(job.payload))
            and (self.tag is None or self.tag in tags_of(job.payload))
        )


def every_job(driver: Driver) -> Iterator[JobView]:
    """Every living job, in no order, each once."""
    seen: set[tuple[str, float]] = set()
    after, more = "", True
    while more:
        page, after = driver.scan(after)
        for job in page:
            if (job.id, job.created_at) not in seen:
                seen.add((job.id, job.created_at))
                yield job
        more = after != ""


def meant(driver: Driver, ids: Sequence[str], which: Which) -> tuple[list[JobView], list[str]]:
    """The living jobs that were asked for, and the ids that none of them has."""
    if bool(ids) == bool(which):
        raise click.UsageError("expected ids, or one or more of --queue, --task and --tag")
    if which:
        return [job for job in every_job(driver) if which.fits(job)], []
    found = driver.find(ids)
    known = {job.id for job in found}
    return found, [id_ for id_ in dict.fromkeys(ids) if id_ not in known]
