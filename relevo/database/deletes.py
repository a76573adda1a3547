"""A DELETE that reads only the rows it deletes.

InnoDB locks, and waits for, each row that a DELETE reads on its way. Where the named rows are a
good part of a small table, MySQL and MariaDB read all of it, whatever index they are told: ten acks
beside a session that had dispatched one job waited for its commit. Joined with a list of the ids,
in this order, they look up one row after the other. (An UPDATE by the primary key skips such rows.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, text


def delete_by_id(
    connection: Connection, table: Table, ids: Sequence[int | str], **columns: Sequence[str]
) -> int:
    """Delete the rows with these ids, and with one of the given values in each of `columns`.

    Returns how many.
    """
    if not ids:
        return 0
    if connection.dialect.name in ("mysql", "mariadb"):
        asked = {"ids_": json.dumps(list(ids)), **columns}
        return connection.execute(_by_lookup(table, tuple(columns)), asked).rowcount
    return connection.execute(_by_list(table, tuple(columns)), {"ids_": ids, **columns}).rowcount


@cache
def _by_list(table: Table, columns: tuple[str, ...]) -> Any:
    also = [table.c[name].in_(bindparam(name, expanding=True)) for name in columns]
    return delete(table).where(table.c.id.in_(bindparam("ids_", expanding=True)), *also)


@cache
def _by_lookup(table: Table, columns: tuple[str, ...]) -> Any:
    also = " AND ".join(f"wanted.{name} IN :{name}" for name in columns)
    found = text(
        "DELETE wanted FROM"
        " JSON_TABLE(:ids_, '$[*]' COLUMNS (id BIGINT PATH '$')) AS named"
        f" STRAIGHT_JOIN {table.name} AS wanted FORCE INDEX (PRIMARY) ON wanted.id = named.id"
        f"{also and f' WHERE {also}'}"
    )
    return found.bindparams(*(bindparam(name, expanding=True) for name in columns))
