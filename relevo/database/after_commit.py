"""What is to be done once the transaction of a connection has committed, and never if it has not.

    add    (in the transaction) ask for it
    take   (after the commit) who has committed takes it, and does it

`Connections.write` does both ends for its transactions. For a session of the user's,
`relevo/dispatch/transactions.py` takes it and waits for that session's commit.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

Do = Callable[[], None]

# By the connection object: one that ends in a rollback takes its list along.
_asked: WeakKeyDictionary[Connection, list[Do]] = WeakKeyDictionary()


def add(connection: Connection, do: Do) -> None:
    """Do this after the commit of the connection's transaction, once."""
    asked = _asked.setdefault(connection, [])
    if do not in asked:
        asked.append(do)


def take(connection: Connection) -> list[Do]:
    """Return what was asked for in the connection's transaction; the caller does it."""
    return _asked.pop(connection, [])
