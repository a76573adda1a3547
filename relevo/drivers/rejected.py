"""Where a message goes that nothing can be done with: it is kept in a queue of its own, with the reason in the log.

It is the job as it was, payload and id, whatever is wrong with it, so that it can be looked at, mended and put again.
"""

from __future__ import annotations

import logging
from typing import Any

from relevo.drivers.contract import NewJob, ReservedJob
from relevo.drivers.ledger import Ledger
from relevo.errors import DriverError

logger = logging.getLogger(__name__)

REJECTED = "rejected"


def put_aside(ledger: Ledger, job: ReservedJob, reason: str) -> None:
    """Keep `job` in the queue, then forget its lease. A broker that can't be reached now gets another chance."""
    logger.error("job %s of queue %r is put aside in queue %r: %s", job.id, job.queue, REJECTED, reason)
    try:
        ledger.driver.put([NewJob(queue=REJECTED, payload=_keepable(job.payload), id=job.id)])
    except DriverError:
        logger.exception("job %s could not be put aside and goes back to queue %r", job.id, job.queue)
        ledger.release([job.lease.token])
    else:
        ledger.done(job.lease.token)


def _keepable(payload: Any) -> str:
    """What came out of a table need not be what a driver takes: bytes, lone surrogates, NUL characters."""
    raw = payload if isinstance(payload, bytes) else str(payload).encode("utf-8", "backslashreplace")
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
