"""What SQLAlchemy can't say for all: hot statements, one file each in `sql/`, and an insert that
may be too late.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from sqlalchemy import BindParameter, Connection, Table, TextClause, bindparam, insert, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

_UPSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
_DUPLICATE_ENTRY = 1062  # MySQL's and MariaDB's number for it


@cache
def statement(name: str, skip: str = "") -> TextClause:
    """The statement in `sql/<name>.sql`; what stands after IN takes a list."""
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
    """Insert a row unless one with its key is there. Waits for whoever is just inserting that one."""
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
