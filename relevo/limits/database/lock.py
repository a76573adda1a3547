"""The lock of a key: its row, made or touched by whoever is to change anything of the key, held until the commit."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam
from sqlalchemy.dialects import mysql, postgresql, sqlite

from relevo.limits.database.tables import limits


def lock(connection: Connection, key: str, keep_until: float, at_most: int | None = None) -> None:
    """Wait for the row of `key` and hold it. It is kept until that instant if nobody uses it meanwhile."""
    row = {"limit_key": key, "keep_until": keep_until, **({} if at_most is None else {"at_most": at_most})}
    connection.execute(_statement(connection.dialect.name, at_most is not None), row)


@cache
def _statement(dialect: str, with_most: bool) -> Any:
    columns = ["limit_key", "keep_until", *(["at_most"] if with_most else [])]
    values: dict[str, Any] = {name: bindparam(name) for name in columns}
    if dialect in ("mysql", "mariadb"):
        add = mysql.insert(limits).values(values)
        return add.on_duplicate_key_update({name: add.inserted[name] for name in columns[1:]})
    # One class with two names, as far as this goes: both know ON CONFLICT.
    insert: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    new = insert(limits).values(values)
    changed = {name: new.excluded[name] for name in columns[1:]}
    return new.on_conflict_do_update(index_elements=["limit_key"], set_=changed)
