"""Deletes many rows a page at a time, a transaction each.

A single transaction of 500,000 rows takes seconds, in which others wait for its locks and SQLite
lets nobody write. Rows that another transaction has locked are left to the next call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    bindparam,
    delete,
    or_,
    select,
    tuple_,
)

from relevo.store.store import Store

#: The most rows that one transaction deletes.
PAGE = 1000
#: The most pages that one call of housekeeping deletes: it has other duties.
MOST_PAGES = 200


def prune(store: Store, table: Table, *conditions: ColumnElement[bool]) -> int:
    """Delete the rows that meet the conditions, up to MOST_PAGES pages. Returns how many."""
    total = 0
    for _ in range(MOST_PAGES):
        gone = store.write(lambda connection: delete_page(connection, table, *conditions))
        total += gone
        if gone < PAGE:
            break
    return total


def delete_page(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> int:
    """Delete up to PAGE rows that meet the conditions. Returns how many."""
    key = list(table.primary_key.columns)
    found = select(*key).where(*conditions).limit(PAGE).with_for_update(skip_locked=True)
    return _delete(connection, key, connection.execute(found).all())


def prune_orphans(
    store: Store, table: Table, age: Any, before: float, *conditions: ColumnElement[bool]
) -> int:
    """Like `prune`, where rows older than `before` may be kept. `age`: an indexed column.

    Each page begins where the last one ended: reading the kept rows again for each page would cost
    the square of their number.
    """
    total, number = 0, next(iter(table.primary_key.columns))
    for rows in _windows(store, age, number, before):
        numbers = [row[1] for row in rows]
        gone = delete(table).where(number.in_(numbers), *conditions)
        total += store.write(lambda connection, gone=gone: connection.execute(gone).rowcount)  # type: ignore[misc]
    return total


def _windows(store: Store, age: Any, number: Any, before: float) -> Iterator[Sequence[Any]]:
    query = select(age, number).where(age < before).order_by(age, number).limit(PAGE)
    rows = store.read(lambda connection: connection.execute(query).all())
    while rows:
        yield rows
        last, last_number = rows[-1]
        after = query.where(age >= last, or_(age > last, number > last_number))
        rows = store.read(lambda connection, after=after: connection.execute(after).all())  # type: ignore[misc]


def _delete(connection: Connection, key: Sequence[Any], found: Sequence[Row[Any]]) -> int:
    """Delete rows that the transaction has locked. Returns how many."""
    table = key[0].table
    if found and connection.dialect.name in ("mysql", "mariadb"):
        # One by one: with a list of a small table's keys they read, and wait for, all of its rows.
        mine = and_(*(column == bindparam(f"{column.name}_") for column in key))
        rows = [{f"{name}_": value for name, value in row._mapping.items()} for row in found]  # noqa: SLF001  public
        connection.execute(delete(table).where(mine), rows)
    elif found:
        listed = tuple_(*key) if len(key) > 1 else key[0]
        values = [tuple(row) if len(key) > 1 else row[0] for row in found]
        connection.execute(delete(table).where(listed.in_(values)))
    return len(found)
