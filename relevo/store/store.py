"""The store of this process: the database at a url, with Relevo's tables in it.

`write` is one transaction, `read` takes no lock. Both raise DriverUnavailableError when the
database is away. A SQLite file gets its tables at first use, a server by `celery -A tasks schema
upgrade`.
"""

from __future__ import annotations

import threading

from relevo.database.connections import Connections

Store = Connections

_stores: dict[str, Store] = {}
_stores_lock = threading.Lock()


def store_for(url: str) -> Store:
    """Return the store at `url`, made at the first call. It may cross a fork."""
    with _stores_lock:
        if url not in _stores:
            _stores[url] = Store(url)
        return _stores[url]
