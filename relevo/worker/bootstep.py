"""What a worker of an app starts beside Celery's parts: the recorder and the outbox relay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import make_url

from relevo.batches import dispatch
from relevo.database import schema
from relevo.database.engine import resolve
from relevo.dispatch.delivery import delivery_of, same_database
from relevo.errors import DriverUnavailableError, SchemaError
from relevo.recording.recorder import Recorder
from relevo.recording.results import ResultWriter
from relevo.store import outcomes
from relevo.store.outcomes import Ending, Retention
from relevo.store.store import Store, store_for
from relevo.transport.context import WorkerContext
from relevo.worker import unrunnable
from relevo.worker.cancelled_batches import CancelledBatches
from relevo.worker.outbox_relay import Relay

logger = logging.getLogger(__name__)


def start_recording(app: Any, context: WorkerContext) -> None:
    """Record how jobs end in this process, a worker's main process.

    Raises SchemaError if the store's tables are of another version.
    """
    store = store_for(app.settings.database_url)
    check_schema(store)
    settings = app.settings
    keep = Retention(
        settings.keep_completed,
        settings.keep_failed,
        settings.keep_metrics,
        settings.dashboard.keep_audit,
    )
    delivery = delivery_of(app)
    relay = Relay(delivery)
    writer = ResultWriter(app, lambda backend: _lies_in(store, backend))

    def write(endings: Sequence[Ending]) -> None:
        results = [each for ending in endings for each in ending.results]
        awaited = [each for ending in endings if ending.members for each in ending.results]
        if awaited and not writer.publish(awaited):
            # What the commit hands in, a chord's body, reads these results.
            raise DriverUnavailableError("the result backend is away, and chords need its results")
        also = writer.local_steps(results) if results else ()
        try:
            outcomes.write(store, endings, delivery.hand_in, also)
        except DriverUnavailableError:
            raise
        except Exception:
            if not also:
                raise
            # A result that the database refuses decides nothing: the records are written without.
            logger.exception("results were refused together with %d records", len(endings))
            outcomes.write(store, endings, delivery.hand_in)
            writer.write_local(results)
        if any(ending.members for ending in endings):
            relay.wake()

    def publish(endings: Sequence[Ending]) -> bool:
        results = [each for ending in endings for each in ending.results]
        return not results or writer.publish(results)

    def tidy() -> None:
        outcomes.prune(store, keep)
        dispatch.end_abandoned(delivery)

    context.is_cancelled_member = CancelledBatches(store).is_cancelled_member
    context.dead_letter_handler = unrunnable.dead_letter_handler(app, context)
    context.recorder = Recorder(write, tidy, publish)
    context.is_outbox_sent = lambda: relay.is_done
    context.at_end += [context.stop_recording, relay.stop]


def _lies_in(store: Store, backend: Any) -> bool:
    return hasattr(backend, "write_in") and same_database(make_url(store.url), resolve(backend.url))


def check_schema(store: Store) -> None:
    """Raise SchemaError unless the store's tables are of this code's version.

    A store that is away is not waited for: the recorder does that later.
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
