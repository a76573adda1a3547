"""SQLite without fsync in every process that imports this: no test cuts the power.

A killed process loses nothing that it has written. Waiting for a busy disk at each commit would be
most of the time of the tests. (The servers of the tests don't sync either, see `servers.py`.)
"""

from __future__ import annotations

from typing import Any

from relevo.database import engine

#: The statements that a connection of Relevo starts with.
synced = engine._on_connect


def _on_connect(connection: Any, record: Any) -> None:
    synced(connection, record)
    connection.execute("PRAGMA synchronous = OFF")


engine._on_connect = _on_connect
