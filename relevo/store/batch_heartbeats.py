"""Dispatches of batches that are under way: each says now and then that it lives, and one that fell
silent is ended.

    lives    a thread beside the dispatch writes its receipt anew, every EVERY seconds
    sends    each page has its receipt, so the same dispatch, done again, goes on behind the last
    abandon  (a worker's housekeeping) what was silent for SILENT seconds: its process has died

What was not sent counts as one more member, that has failed: so `catch` and `finally_` come, and
`then` never does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection, String, cast, exists, insert, literal, select

from relevo import clock
from relevo.database import upserts
from relevo.errors import DriverError
from relevo.store import batch_counts
from relevo.store.batch_counts import Tally
from relevo.store.batches import BatchRow, update_counts
from relevo.store.outbox import Deliver
from relevo.store.receipts import exists as is_written
from relevo.store.receipts import insert_once
from relevo.store.store import Store
from relevo.store.tables import batches, members, receipts

logger = logging.getLogger(__name__)

# A dispatch says so often that it lives, and is taken for dead after so much silence: in seconds.
BEAT_SECONDS, SILENT_SECONDS = 60.0, 600.0

_NAME = "dispatch:"
# The number of the member that stands for what was not sent: none that was sent has it.
MISSING = -1


def beat(connection: Connection, id_: str) -> None:
    """The dispatch of this batch lives, in a transaction of the caller's."""
    statement = upserts.insert_or_replace(connection.dialect.name, receipts, "name", ("at",))
    connection.execute(statement, {"name": f"{_NAME}{id_}", "at": clock.now()})


def record_page(connection: Connection, row: BatchRow, upto: int) -> bool:
    """The page of members up to this number is sent, in a transaction of the caller's. False: it
    was before.
    """
    return insert_once(connection, f"{_pages_of(row)}{upto}")


def has_page(connection: Connection, row: BatchRow, upto: int) -> bool:
    """Whether that page was sent: by the same dispatch, done somewhere else just now."""
    return is_written(connection, f"{_pages_of(row)}{upto}")


def count_sent(store: Store, row: BatchRow) -> int:
    """How many members the dispatch of this batch has sent so far, without those that were added."""
    pages, name = _pages_of(row), receipts.c.name
    query = select(name).where(
        name >= f"{pages}0", name < f"{pages}:"
    )  # which is what comes after 9
    names = store.read(lambda connection: connection.execute(query).scalars().all())
    return max(
        (int(upto) for each in names if (upto := each.removeprefix(pages)).isdigit()), default=0
    )


def _pages_of(row: BatchRow) -> str:
    # the id may be another batch's when this one has been pruned
    return f"sent:{row.id}:{row.created_at:.0f}:"


@contextmanager
def heartbeat(store: Store, id_: str) -> Iterator[None]:
    """Within the block, say again and again that the dispatch of this batch lives."""
    done = threading.Event()

    def say() -> None:
        while not done.wait(BEAT_SECONDS):
            try:
                store.write(lambda connection: beat(connection, id_))
            except DriverError as error:
                logger.warning(
                    "that batch %s is being dispatched could not be said: %s", id_, error
                )

    speaker = threading.Thread(target=say, name="relevo-dispatching", daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()


def end_silent(store: Store, deliver: Deliver) -> list[BatchRow]:
    """End the dispatches that fell silent. Returns their batches as they then are."""
    before = clock.now() - SILENT_SECONDS
    heard = exists().where(
        receipts.c.name == literal(_NAME) + cast(batches.c.id, String), receipts.c.at >= before
    )
    silent = select(batches.c.id).where(
        batches.c.finished_at.is_(None),
        batches.c.streams > 0,
        batches.c.created_at < before,
        ~heard,
    )
    found = []
    for id_ in store.read(lambda connection: connection.execute(silent).scalars().all()):
        row = store.write(lambda connection, id_=id_: _end(connection, id_, deliver))  # type: ignore[misc]
        if row is not None:
            logger.warning(
                "batch %s: whoever dispatched it was silent for %.0f s, and it is ended",
                id_,
                SILENT_SECONDS,
            )
            found.append(row)
    return found


def _end(connection: Connection, id_: str, deliver: Deliver) -> BatchRow | None:
    def end(row: BatchRow) -> Tally | None:
        counts = row.tally
        if not counts.streams:
            return None  # somebody was faster
        connection.execute(
            insert(members),
            {
                "batch": id_,
                "member": MISSING,
                "state": batch_counts.FAILED,
                "uuid": f"{id_}.missing",
                "ended_at": clock.now(),
            },
        )
        return replace(counts, streams=0, total=counts.total + 1, failed=counts.failed + 1)

    return update_counts(connection, id_, deliver, end)
