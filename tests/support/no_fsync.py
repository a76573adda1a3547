"""SQLite without fsync, in every process that imports this: none of our tests cuts the power.

A process that is killed loses nothing that it has written; a commit that waits for a busy disk is
most of what a test waits for. (The servers of the tests are told the same, see `servers.py`.)
"""

from __future__ import annotations

from typing import Any

from relevo.database import engine

#: What connections are begun with in earnest.
synced = engine._on_connect


def _on_connect(connection: Any, record: Any) -> None:
    synced(connection, record)
    connection.execute("PRAGMA synchronous = OFF")


engine._on_connect = _on_connect
