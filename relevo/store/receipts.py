"""Receipts: names of steps that must not be done twice.

A receipt is written in the transaction of its step, so it exists if and only if the step happened.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, select

from relevo import clock
from relevo.database import text, upserts
from relevo.database.types import LONGEST_NAME
from relevo.store import pages
from relevo.store.store import Store
from relevo.store.tables import receipts

# A name that is too long for its column is cut to so many characters, followed by a digest.
KEPT_CHARACTERS = 180


def insert_once(connection: Connection, name: str, at: float | None = None) -> bool:
    """Write a receipt, in the caller's transaction. Returns False if there is one already.

    Waits for another transaction that is writing the same receipt.
    """
    return upserts.insert_if_absent(
        connection, receipts, {"name": _name(name), "at": clock.now() if at is None else at}
    )


def prune(store: Store, before: float) -> int:
    """Delete the receipts before an instant. Returns how many."""
    return pages.prune(store, receipts, receipts.c.at < before)


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a receipt of this name."""
    return (
        connection.execute(select(receipts.c.name).where(receipts.c.name == _name(name))).first()
        is not None
    )


def _name(name: str) -> str:
    """Shorten a name, but keep it unique: its end may be the number of a page or of a link."""
    whole = text.storable(name)
    return (
        whole
        if len(whole) <= LONGEST_NAME
        else f"{whole[:KEPT_CHARACTERS]}:{hashlib.sha256(whole.encode()).hexdigest()}"
    )
