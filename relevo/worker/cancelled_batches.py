"""Members of cancelled batches: a worker's main process drops those that have not started.

This costs a query of the store, at most one in FRESH_SECONDS per batch. A member that an operator
has retried runs all the same.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from relevo.errors import DriverError
from relevo.job import membership, payload
from relevo.store import batches
from relevo.store.store import Store

logger = logging.getLogger(__name__)

REASON = "its batch was cancelled"
# How long an answer of the store counts, in seconds.
FRESH_SECONDS = 0.1
# How many answers are remembered.
MOST = 1000


class CancelledBatches:
    """Which batches of one store were cancelled, as a worker last saw them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, tuple[float, bool]] = {}

    def is_cancelled_member(self, request: Any) -> bool:
        """Whether the job of a request must not start, because one of its batches was cancelled."""
        sent = request.request_dict.get(payload.HEADER)
        if isinstance(sent, dict) and sent.get("origin"):
            return False
        ids = membership.batch_ids(request.request_dict, membership.embedded(request))
        return any(self._is_cancelled(batch) for batch in ids)

    def _is_cancelled(self, batch: str) -> bool:
        now = time.monotonic()
        seen_at, cancelled = self._seen.get(batch, (float("-inf"), False))
        if now - seen_at >= FRESH_SECONDS:
            try:
                cancelled = bool(batches.find_cancelled(self._store, [batch]))
            except DriverError as error:  # the job runs, as if the batch were not cancelled
                logger.warning("whether batch %s was cancelled is unknown: %s", batch, error)
            if len(self._seen) >= MOST:
                self._seen.clear()
            self._seen[batch] = now, cancelled
        return cancelled
