"""Statements that SQLAlchemy can't express for all databases.

These are the hot statements, one file each in `sql/`, and an insert that does nothing when the key
is taken.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from sqlalchemy import BindParameter, Connection, Table, TextClause, bindparam, insert, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

_UPSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_DUPLICATE_ENTRY = 1062  # the error number of MySQL and MariaDB


@cache
def statement(name: str, skip: str = "") -> TextClause:
    """The statement in `sql/<name>.sql`, with `skip` for `{skip}`. Names after IN take lists."""
    source = files(__package__).joinpath("sql", f"{name}.sql").read_text("utf-8")
    lines = [
        line for line in source.replace("{skip}", skip).splitlines() if not line.startswith("--")
    ]
    clause = text("\n".join(lines))
    lists: list[BindParameter[Any]] = [
        bindparam(key, expanding=True) for key in ("ids", "queues") if f"IN :{key}" in clause.text
    ]
    return clause.bindparams(*lists)


def insert_if_new(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert a row unless its key is taken. Waits for a transaction that is inserting the same key.

    Returns whether the row was inserted.
    """
    if connection.dialect.name in _UPSERTS:
        add = _UPSERTS[connection.dialect.name](table).on_conflict_do_nothing().inline()
        return connection.execute(add.execution_options(preserve_rowcount=True), row).rowcount == 1
    try:
        connection.execute(insert(table), row)
    except IntegrityError as error:  # undoes only the statement, not the transaction
        if error.orig is None or error.orig.args[0] != _DUPLICATE_ENTRY:
            raise
        return False
    return True
