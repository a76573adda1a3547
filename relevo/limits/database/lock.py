"""The lock of a key: its row, inserted or updated before any change of the key, and so locked.

It is held until the commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

from relevo.limits.database.tables import limits


def lock(connection: Connection, key: str, keep_until: float, at_most: int | None = None) -> None:
    """Lock the row of `key`, waiting for others. An unused row is kept until `keep_until`."""
    row = {
        "limit_key": key,
        "keep_until": keep_until,
        **({} if at_most is None else {"at_most": at_most}),
    }
    connection.execute(_statement(connection.dialect.name, at_most is not None), row)


def lock_all(
    connection: Connection, keys: Mapping[str, int], now: float, keep_until: float
) -> None:
    """Lock the rows of many keys, in the one order in which keys are locked.

    `keys`: the number of permits by key.
    """
    missing = dict(sorted(keys.items()))
    # On SQLite the transaction is the lock, so a row that is right needs no write.
    if connection.dialect.name == "sqlite":
        fresh = and_(limits.c.limit_key.in_(keys), limits.c.keep_until > (now + keep_until) / 2)
        for row in connection.execute(select(limits.c.limit_key, limits.c.at_most).where(fresh)):
            if row.at_most == keys[row.limit_key]:
                del missing[row.limit_key]
    if missing:
        rows = [
            {"limit_key": key, "keep_until": keep_until, "at_most": most}
            for key, most in missing.items()
        ]
        connection.execute(_statement(connection.dialect.name, True), rows)


@cache
def _statement(dialect: str, with_most: bool) -> Any:
    columns = ["limit_key", "keep_until", *(["at_most"] if with_most else [])]
    values: dict[str, Any] = {name: bindparam(name) for name in columns}
    if dialect in ("mysql", "mariadb"):
        add = mysql.insert(limits).values(values)
        return add.on_duplicate_key_update({name: add.inserted[name] for name in columns[1:]})
    # Both have ON CONFLICT, but no common class.
    insert: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    new = insert(limits).values(values)
    changed = {name: new.excluded[name] for name in columns[1:]}
    return new.on_conflict_do_update(index_elements=["limit_key"], set_=changed)
