"""Heartbeats of batches that are being dispatched, and the end of a dispatch that fell silent.

    heartbeat    a thread beside the dispatch renews its receipt every BEAT_SECONDS
    record_page  each sent page has a receipt, so a repeated dispatch continues after it
    end_silent   (housekeeping) after SILENT_SECONDS the dispatching process counts as dead

All unsent members together count as one more member, which has failed. So `catch` and `finally_`
come, and `then` does not.
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
from relevo.store.batches import BatchRow, MemberEnd, update_counts
from relevo.store.outbox import Deliver
from relevo.store.receipts import exists as is_written
from relevo.store.receipts import insert_once
from relevo.store.store import Store
from relevo.store.tables import batches, members, receipts

logger = logging.getLogger(__name__)

# How often a dispatch renews its receipt, and after how long without it counts as dead.
BEAT_SECONDS, SILENT_SECONDS = 60.0, 600.0

_NAME = "dispatch:"
# The number of the member that stands for all unsent members. No sent member has it.
MISSING = -1
# What the batch's callbacks get as its error.
UNSENT = "BatchError: the dispatch died before it had sent all members"


def beat(connection: Connection, id_: str) -> None:
    """Renew the receipt of a batch's dispatch, in the caller's transaction."""
    statement = upserts.insert_or_replace(connection.dialect.name, receipts, "name", ("at",))
    connection.execute(statement, {"name": f"{_NAME}{id_}", "at": clock.now()})


def record_page(connection: Connection, row: BatchRow, upto: int) -> bool:
    """Record that the members up to this number are sent, in the caller's transaction.

    Returns False if that was recorded before.
    """
    return insert_once(connection, f"{_pages_of(row)}{upto}")


def has_page(connection: Connection, row: BatchRow, upto: int) -> bool:
    """Whether that page was sent, by the same dispatch in another process."""
    return is_written(connection, f"{_pages_of(row)}{upto}")


def count_sent(store: Store, row: BatchRow) -> int:
    """Count the members that this batch's dispatch has sent. Members added later don't count."""
    pages, name = _pages_of(row), receipts.c.name
    # ":" is the character after "9", so these are all names that go on with a digit.
    query = select(name).where(name >= f"{pages}0", name < f"{pages}:")
    names = store.read(lambda connection: connection.execute(query).scalars().all())
    return max(
        (int(upto) for each in names if (upto := each.removeprefix(pages)).isdigit()), default=0
    )


def _pages_of(row: BatchRow) -> str:
    # The time tells apart two batches of one id, of which the first has been pruned.
    return f"sent:{row.id}:{row.created_at:.0f}:"


@contextmanager
def heartbeat(store: Store, id_: str) -> Iterator[None]:
    """Renew the receipt of a batch's dispatch, in a thread, for as long as the block runs."""
    done = threading.Event()

    def beat_until_done() -> None:
        while not done.wait(BEAT_SECONDS):
            try:
                store.write(lambda connection: beat(connection, id_))
            except DriverError as error:
                logger.warning("the heartbeat of batch %s could not be written: %s", id_, error)

    thread = threading.Thread(target=beat_until_done, name="relevo-dispatching", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def end_silent(store: Store, deliver: Deliver) -> list[BatchRow]:
    """End the dispatches that fell silent. Returns their batches as they are afterwards."""
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
                "batch %s: its dispatch was silent for %.0f s and is ended",
                id_,
                SILENT_SECONDS,
            )
            found.append(row)
    return found


def _end(connection: Connection, id_: str, deliver: Deliver) -> BatchRow | None:
    def end(row: BatchRow) -> Tally | None:
        counts = row.tally
        if not counts.streams:
            return None  # another worker has ended it
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

    missing = MemberEnd(id_, MISSING, batch_counts.FAILED, f"{id_}.missing", UNSENT)
    return update_counts(connection, id_, deliver, end, [missing])
