"""Claims on failed jobs that are being retried, so that each is sent only once.

    claim         a conditional update; the caller then puts the jobs into the broker
    mark_retried  the jobs are in the broker
    give_up       the jobs could not be put: they are free again

If the process dies, its claims end after CLAIM_SECONDS. The caller puts a job with the number of
its row as unique key, so even then no second job waits beside the first.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, and_, func, or_, select, update

from relevo import clock
from relevo.store.failed import PAGE, FailedJob, Filter, job_of, numbers_of
from relevo.store.store import Store
from relevo.store.tables import failed

# How long a claim lasts if its process dies.
CLAIM_SECONDS = 60.0


def newest_number(store: Store) -> int:
    """Return the highest number of a failed job."""
    return store.read(
        lambda connection: int(connection.execute(select(func.max(failed.c.id))).scalar() or 0)
    )


def claim(
    store: Store, which: Filter, limit: int = PAGE, after: int = 0
) -> tuple[str, list[FailedJob]]:
    """Claim some failed jobs that were not retried, oldest first, with a number above `after`.

    Returns the claim's name and the jobs. The search runs before the lock is taken, because it may
    be slow.
    """
    name, now = uuid.uuid4().hex, clock.now()
    free = [
        failed.c.retried_at.is_(None),
        or_(failed.c.claim.is_(None), failed.c.claimed_at < now - CLAIM_SECONDS),
    ]

    def take(connection: Connection) -> list[FailedJob]:
        mine = (
            update(failed).where(failed.c.id.in_(numbers), *free).values(claim=name, claimed_at=now)
        )
        connection.execute(mine)
        rows = connection.execute(
            select(failed).where(failed.c.claim == name).order_by(failed.c.id)
        )
        return [job_of(row) for row in rows]

    while numbers := numbers_of(store, replace(which, also=[*free, *which.also]), after, limit):
        if jobs := store.write(take):
            return name, jobs
        after = numbers[-1]  # other processes have claimed all of these
    return name, []


def mark_retried(store: Store, name: str, numbers: Sequence[int] | None = None) -> None:
    """Mark the claimed jobs, or those with these numbers, as retried: they are in the broker."""
    mine = (
        failed.c.claim == name
        if numbers is None
        else and_(failed.c.claim == name, failed.c.id.in_(numbers))
    )
    done = update(failed).where(mine).values(claim=None, claimed_at=None, retried_at=clock.now())
    store.write(lambda connection: connection.execute(done))


def give_up(store: Store, name: str) -> None:
    """Free the remaining jobs of a claim: they could not be put into the broker."""
    free = update(failed).where(failed.c.claim == name).values(claim=None, claimed_at=None)
    store.write(lambda connection: connection.execute(free))
