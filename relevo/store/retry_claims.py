"""Which failed jobs somebody is putting back just now: each is claimed before it is sent, so it is
sent once.

    claim (a conditional update) -> the caller puts the jobs into the broker -> settle (marked as
    retried)
                                                                             -> give_up (it could not: free again)

A claim nobody settles or gives up is its holder's death; the job is free again after CLAIM seconds.
The caller puts a job with its row's number as unique key, so that even then no second one waits
beside the first.
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

# Seconds after which a claim is its holder's death.
CLAIM_SECONDS = 60.0


def newest_number(store: Store) -> int:
    """The highest number a failed job has now."""
    return store.read(
        lambda connection: int(connection.execute(select(func.max(failed.c.id))).scalar() or 0)
    )


def claim(
    store: Store, which: Filter, limit: int = PAGE, after: int = 0
) -> tuple[str, list[FailedJob]]:
    """Take some of the failed jobs that were not retried, oldest first, of those with a number
    above `after`.

    Returns the claim's name and the jobs. They are looked for first: a search may take a while, and
    the lock is short.
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
        after = numbers[-1]  # others were quicker with all of these
    return name, []


def mark_retried(store: Store, name: str, numbers: Sequence[int] | None = None) -> None:
    """The claimed jobs, or those with these numbers, are in the broker."""
    mine = (
        failed.c.claim == name
        if numbers is None
        else and_(failed.c.claim == name, failed.c.id.in_(numbers))
    )
    done = update(failed).where(mine).values(claim=None, claimed_at=None, retried_at=clock.now())
    store.write(lambda connection: connection.execute(done))


def give_up(store: Store, name: str) -> None:
    """What is left of the claimed jobs could not be put back."""
    free = update(failed).where(failed.c.claim == name).values(claim=None, claimed_at=None)
    store.write(lambda connection: connection.execute(free))
