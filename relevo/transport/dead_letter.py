"""Where a message goes that nothing can be done with: to the failed store, or where there is none
to a queue.

It is the job as it was, payload and id, whatever is wrong with it, so that it can be looked at,
mended and put again. The reason stands in the log, and in the failed store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from relevo.drivers.contract import NewJob, ReservedJob
from relevo.errors import DriverError
from relevo.transport.lease_keeper import Ledger

logger = logging.getLogger(__name__)

REJECTED = "rejected"

#: Who keeps such a job in this process, if anybody: gets the job, the reason, and what to call with
#: the tokens of what is kept. Answers False when it can't. Set by the app; this package knows
#: nothing of the store.
keeper: Callable[[ReservedJob, str, Callable[[list[str]], None]], bool] | None = None


def put_aside(ledger: Ledger, job: ReservedJob, reason: str) -> None:
    """Keep `job`, then forget its lease. A broker that can't be reached now gets another chance."""
    logger.error("job %s of queue %r can't be run and is put aside: %s", job.id, job.queue, reason)
    if keeper is None or not keeper(job, reason, ledger.all_done):
        _into_queue(ledger, job)


def _into_queue(ledger: Ledger, job: ReservedJob) -> None:
    try:
        ledger.driver.put([NewJob(queue=REJECTED, payload=_keepable(job.payload), id=job.id)])
    except DriverError:
        logger.exception(
            "job %s could not be put aside and goes back to queue %r", job.id, job.queue
        )
        ledger.release([job.lease.token])
    else:
        ledger.done(job.lease.token)


def _keepable(payload: Any) -> str:
    """What came out of a table need not be what a driver takes: bytes, lone surrogates, NUL
    characters.
    """
    raw = (
        payload if isinstance(payload, bytes) else str(payload).encode("utf-8", "backslashreplace")
    )
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
