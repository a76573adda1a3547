"""Writes the ends of a group of jobs in one transaction.

It covers the failed store, history, metrics, the counts of batches with their callbacks, runs of
the schedule, and the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, exists

from relevo import clock
from relevo.store import (
    audit,
    batches,
    failed,
    history,
    metrics,
    outbox,
    pages,
    receipts,
    schedules,
)
from relevo.store.batches import MemberEnd
from relevo.store.failed import FailedJob
from relevo.store.history import Ended, EndedJob
from relevo.store.outbox import Deliver
from relevo.store.schedules import RunEnd
from relevo.store.store import Store
from relevo.store.tables import failed as failed_table
from relevo.store.tables import history as history_table
from relevo.store.tables import tags


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a job: `job` for history and metrics, `failure` for the failed store.

    `listed`: history keeps the job; otherwise metrics only count it. `members`: its ends as a
    member of batches. `outbox_id`: its id, if it came through the outbox. `run`: the end of its run
    of the schedule.
    """

    job: EndedJob | None = None
    failure: FailedJob | None = None
    listed: bool = True
    members: tuple[MemberEnd, ...] = ()
    outbox_id: str | None = None
    run: RunEnd | None = None
    results: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return Ending, (
            self.job,
            self.failure,
            self.listed,
            self.members,
            self.outbox_id,
            self.run,
            self.results,
        )  # a tenth of what the dataclass's own way takes


@dataclass(frozen=True, slots=True)
class Retention:
    """How long to keep jobs (completed or cancelled, and failed), metrics and the audit log.

    In seconds.
    """

    completed: float
    failed: float
    metrics: float
    audit: float = 90 * 86_400


def write(
    store: Store,
    endings: Sequence[Ending],
    deliver: Deliver = outbox.add,
    also: Sequence[Callable[[Connection], None]] = (),
) -> None:
    """Commit a group of endings, and dispatch the callbacks of batches with `deliver`."""
    ended = [ending.job for ending in endings if ending.job is not None]
    listed = [ending.job for ending in endings if ending.job is not None and ending.listed]
    failures = [ending.failure for ending in endings if ending.failure is not None]

    parts = [failed.prepare(failures), history.prepare(listed), metrics.prepare(ended)]
    sent = [ending.outbox_id for ending in endings if ending.outbox_id is not None]
    if sent:
        parts.append(lambda connection: outbox.delete_delivered(connection, sent))
    if runs := [ending.run for ending in endings if ending.run is not None]:
        parts.append(lambda connection: schedules.end_runs(connection, runs))
    if members := [end for ending in endings for end in _member_ends(ending)]:
        parts.append(batches.prepare_ends(members, deliver))

    parts += also

    def record(connection: Connection) -> None:
        for write_part in parts:
            write_part(connection)

    store.write(record)


def _member_ends(ending: Ending) -> tuple[MemberEnd, ...]:
    """The ends of the job as a member, with the error for the callbacks of its batches."""
    failure = ending.failure
    if failure is None:
        return ending.members
    error = f"{failure.exception}: {failure.message}"
    return tuple(replace(end, error=error) for end in ending.members)


def prune(store: Store, keep: Retention) -> None:
    """Delete what is older than its retention. Jobs of the failed store are kept."""
    now = clock.now()
    for state in Ended:
        before = now - (keep.failed if state is Ended.FAILED else keep.completed)
        history.prune(store, state, before)
    metrics.prune(store, now - keep.metrics)
    audit.prune(store, now - keep.audit)
    receipts.prune(store, now - max(keep.completed, keep.failed))
    schedules.prune(store, now - max(keep.completed, keep.failed))
    # History and the failed store share the tags; a tag goes when neither has its job any more.
    listed = exists().where(history_table.c.uuid == tags.c.uuid)
    has_failed = exists().where(failed_table.c.uuid == tags.c.uuid)
    oldest = now - min(keep.completed, keep.failed)
    pages.prune_orphans(store, tags, tags.c.at, oldest, ~listed, ~has_failed)
