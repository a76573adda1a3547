"""Where the recorder of a worker writes: the store of its app's settings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from relevo.batches import dispatch
from relevo.database import schema
from relevo.dispatch.delivery import delivery_of
from relevo.errors import DriverUnavailableError, SchemaError
from relevo.recording import recorder
from relevo.store import outcomes
from relevo.store.outcomes import Ending, Retention
from relevo.store.store import Store, store_for
from relevo.transport import dead_letter, transport
from relevo.worker import cancelled_batches, outbox_relay, unrunnable

logger = logging.getLogger(__name__)


def open_store(app: Any) -> None:
    """Record what ends in this process, a worker's main process. Raises SchemaError when the tables
    are old.
    """
    store = store_for(app.settings.database_url)
    check(store)
    settings = app.settings
    keep = Retention(
        settings.keep_completed,
        settings.keep_failed,
        settings.keep_metrics,
        settings.dashboard.keep_audit,
    )
    delivery = delivery_of(app)
    relaying = outbox_relay.start(delivery)

    def write(endings: Sequence[Ending]) -> None:
        outcomes.write(store, endings, delivery.hand_in)
        if any(ending.members for ending in endings):
            delivery.notify()
            relaying.wake()

    def tidy() -> None:
        outcomes.prune(store, keep)
        dispatch.end_abandoned(delivery)

    cancelled_batches.look_in(store)
    recorder.start(write, tidy)
    dead_letter.keeper = unrunnable.dead_letter_handler(app)
    for last in (recorder.stop, outbox_relay.stop):
        if last not in transport.at_end:
            transport.at_end.append(last)


def check(store: Store) -> None:
    """Raise SchemaError unless the store's tables are of this code's version; one that is away is
    waited for later.
    """
    try:
        found = store.read(schema.version)
    except DriverUnavailableError as error:
        logger.warning("the store is away, jobs that end wait for it: %s", error)
        return
    if found != schema.NEWEST:
        raise SchemaError(
            f"expected the tables of the store to be of version {schema.NEWEST}, got {found};"
            " run `celery -A tasks schema upgrade`"
        )
