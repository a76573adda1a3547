"""Members of a batch that was cancelled: those that have not started are dropped, in the worker's
main process.

Each costs a look into the store, at most one in a tenth of a second and batch. A member that was
put back by hand runs all the same.
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
# For so many seconds a batch is taken to be as it was last seen, and of so many at once.
FRESH, MOST = 0.1, 1000

_store: Store | None = None
_seen: dict[str, tuple[float, bool]] = {}


def look_in(store: Store) -> None:
    """Where the batches are, in this process."""
    global _store  # noqa: PLW0603  one a process
    _store = store
    _seen.clear()


def is_dropped(request: Any) -> bool:
    """Whether the job of a request is not to be started, because a batch of it was cancelled."""
    if _store is None:
        return False
    sent = request.request_dict.get(payload.HEADER)
    if isinstance(sent, dict) and sent.get("origin"):
        return False
    ids = membership.batch_ids(request.request_dict, membership.embedded(request))
    return any(is_cancelled(_store, batch) for batch in ids)


def is_cancelled(store: Store, batch: str) -> bool:
    """Whether a batch was cancelled, as far as is known."""
    now = time.monotonic()
    looked_at, cancelled = _seen.get(batch, (float("-inf"), False))
    if now - looked_at >= FRESH:
        try:
            cancelled = bool(batches.find_cancelled(store, [batch]))
        except DriverError as error:  # it runs, as if nobody had cancelled it
            logger.warning("whether batch %s was cancelled can't be seen: %s", batch, error)
        if len(_seen) >= MOST:
            _seen.clear()
        _seen[batch] = now, cancelled
    return cancelled
