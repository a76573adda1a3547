"""What became of jobs, a group at a time, in one transaction: failures, history, metrics, and the
counts of batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists

from relevo import clock
from relevo.store import audit, batches, failed, history, metrics, outbox, receipts, schedules
from relevo.store.batches import MemberEnd
from relevo.store.failed import FailedJob
from relevo.store.history import Ended, EndedJob
from relevo.store.outbox import Deliver
from relevo.store.schedules import RunEnd
from relevo.store.store import Store
from relevo.store.tables import failed as failed_table
from relevo.store.tables import history as history_table
from relevo.store.tables import tags

# At one turn of the housekeeping no more than so many jobs of a state are deleted, a page at a
# time.
MOST_PAGES = 200


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a job: `job` for history and metrics, `failure` for the failed store.

    `listed`: whether history keeps the job; if it doesn't, the job is only counted. `members`: how
    it ended as a member of batches. `sent`: its id, if it came through the outbox. `run`: how the
    run of an entry of the schedule has ended.
    """

    job: EndedJob | None = None
    failure: FailedJob | None = None
    listed: bool = True
    members: tuple[MemberEnd, ...] = ()
    outbox_id: str | None = None
    run: RunEnd | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many seconds is kept what completed (or was cancelled), what failed, the metrics, and
    the audit log.
    """

    completed: float
    failed: float
    metrics: float
    audit: float = 90 * 86_400


def write(store: Store, endings: Sequence[Ending], deliver: Deliver = outbox.add) -> None:
    """Commit a group of endings, and with them the callbacks of batches, handed in with `deliver`."""
    ended = [ending.job for ending in endings if ending.job is not None]
    listed = [ending.job for ending in endings if ending.job is not None and ending.listed]
    failures = [ending.failure for ending in endings if ending.failure is not None]

    parts = [failed.prepare(failures), history.prepare(listed), metrics.prepare(ended)]
    sent = [ending.outbox_id for ending in endings if ending.outbox_id is not None]
    if sent:
        parts.append(lambda connection: outbox.delete_delivered(connection, sent))
    if runs := [ending.run for ending in endings if ending.run is not None]:
        parts.append(lambda connection: schedules.end_runs(connection, runs))
    if members := [end for ending in endings for end in ending.members]:
        parts.append(batches.prepare_ends(members, deliver))

    def record(connection: Connection) -> None:
        for write_part in parts:
            write_part(connection)

    store.write(record)


def prune(store: Store, keep: Retention) -> None:
    """Delete what is older than it is kept. The failed store keeps its jobs until somebody says
    otherwise.
    """
    now = clock.now()
    for state in Ended:
        before = now - (keep.failed if state is Ended.FAILED else keep.completed)
        for _ in range(MOST_PAGES):
            if history.prune(store, state, before) < history.PAGE:
                break
    metrics.prune(store, now - keep.metrics)
    audit.prune(store, now - keep.audit)
    receipts.prune(store, now - max(keep.completed, keep.failed))
    schedules.prune(store, now - max(keep.completed, keep.failed))
    # Tags lie beside history and failed jobs alike, and go when neither has the job any more.
    listed = exists().where(history_table.c.uuid == tags.c.uuid)
    has_failed = exists().where(failed_table.c.uuid == tags.c.uuid)
    old = delete(tags).where(
        tags.c.at < now - min(keep.completed, keep.failed), ~listed, ~has_failed
    )
    store.write(lambda connection: connection.execute(old))
