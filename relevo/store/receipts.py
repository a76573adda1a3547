"""Receipts: what has been done under a name. It is written in the transaction that does it, so it
was done or not.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, delete, select

from relevo import clock
from relevo.database import text, upserts
from relevo.database.types import LONGEST_NAME
from relevo.store.store import Store
from relevo.store.tables import receipts

# Of a name that is too long for its column so much is kept, and a digest of all of it stands
# behind.
KEPT_CHARACTERS = 180


def insert_once(connection: Connection, name: str, at: float | None = None) -> bool:
    """Write a receipt, in a transaction of the caller's. Returns False when there is one already.

    Whoever writes the same one at the same time is waited for.
    """
    return upserts.insert_if_absent(
        connection, receipts, {"name": _name(name), "at": clock.now() if at is None else at}
    )


def prune(store: Store, before: float) -> int:
    """Delete the receipts of before an instant. Returns how many."""
    return store.write(
        lambda connection: (
            connection.execute(delete(receipts).where(receipts.c.at < before)).rowcount
        )
    )


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a receipt."""
    return (
        connection.execute(select(receipts.c.name).where(receipts.c.name == _name(name))).first()
        is not None
    )


def _name(name: str) -> str:
    """What is cut off says which page of members it was, or which link: two such must not be taken
    for one.
    """
    whole = text.storable(name)
    return (
        whole
        if len(whole) <= LONGEST_NAME
        else f"{whole[:KEPT_CHARACTERS]}:{hashlib.sha256(whole.encode()).hexdigest()}"
    )
