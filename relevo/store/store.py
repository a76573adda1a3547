"""The store of this process: the database at a url, with the engine's tables in it.

`write` is one transaction, `read` takes no lock; both raise DriverUnavailableError when the
database is away. A SQLite file gets its tables at first use, a server by `celery -A tasks schema
upgrade`.
"""

from __future__ import annotations

import threading

from relevo.database.connections import Connections

Store = Connections

_open: dict[str, Store] = {}
_opening = threading.Lock()


def store_for(url: str) -> Store:
    """The store at `url`, made at the first call. It may cross a fork: its connections don't."""
    with _opening:
        if url not in _open:
            _open[url] = Store(url)
        return _open[url]
