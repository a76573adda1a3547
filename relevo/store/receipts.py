"""Receipts: what has been done under a name. It is written in the transaction that does it, so it was done or not."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from relevo import clock
from relevo.store import texts, upserts
from relevo.store.batch_tables import receipts
from relevo.store.session import Store


def is_first(connection: Connection, name: str, at: float | None = None) -> bool:
    """Write a receipt, in a transaction of the caller's. Returns False when there is one already.

    Whoever writes the same one at the same time is waited for.
    """
    return upserts.is_new(connection, receipts, {"name": texts.name(name), "at": clock.now() if at is None else at})


def prune(store: Store, before: float) -> int:
    """Delete the receipts of before an instant. Returns how many."""
    return store.write(lambda connection: connection.execute(delete(receipts).where(receipts.c.at < before)).rowcount)


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a receipt."""
    return connection.execute(select(receipts.c.name).where(receipts.c.name == texts.name(name))).first() is not None
