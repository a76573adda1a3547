"""Dead letters: jobs that no worker can run. They go to the failed store, or else to a queue.

The job is kept as it came, with its payload and its id, so that it can be looked at, mended and put
again. The reason is logged and stands in the failed store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from relevo.database.text import storable
from relevo.drivers.contract import NewJob, ReservedJob
from relevo.errors import RelevoError
from relevo.transport.lease_keeper import LeaseKeeper

logger = logging.getLogger(__name__)

#: The queue for dead letters of a process that has no failed store.
REJECTED = "rejected"

#: Stores a dead letter. Gets the job, the reason, and the function to call with the tokens of the
#: stored jobs. Returns False when it can't store anything.
DeadLetterHandler = Callable[[ReservedJob, str, Callable[[list[str]], None]], bool]


def dead_letter(
    keeper: LeaseKeeper, job: ReservedJob, reason: str, handler: DeadLetterHandler | None
) -> None:
    """Store `job` as a dead letter, then end its lease. Release it if the broker is away."""
    logger.error(
        "job %s of queue %r can't be run and becomes a dead letter: %s", job.id, job.queue, reason
    )
    if handler is None or not handler(job, reason, keeper.complete_many):
        _put_into_queue(keeper, job)


def _put_into_queue(keeper: LeaseKeeper, job: ReservedJob) -> None:
    try:
        keeper.driver.put([NewJob(queue=REJECTED, payload=storable(job.payload), id=job.id)])
    except RelevoError:
        logger.exception(
            "dead letter %s could not be stored, and is released to queue %r", job.id, job.queue
        )
        keeper.release([job.lease.token])
    else:
        keeper.complete(job.lease.token)
