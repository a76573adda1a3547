"""INSERT of what may be there already, in the words of each database."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Insert,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    insert,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import IntegrityError

_MYSQL = ("mysql", "mariadb")
_DUPLICATE_ENTRY = 1062


def execute_many(
    connection: Connection, statement: Insert, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Execute an INSERT with many rows, which all have the same columns.

    PostgreSQL gets them as one value: its driver sends them one by one, which costs the worker
    three times as much.
    """
    if connection.dialect.name != "postgresql" or len(rows) == 1:
        connection.execute(statement, [dict(row) for row in rows])
    else:
        connection.execute(
            _from_json(statement, tuple(rows[0])),
            {"rows": json.dumps([dict(row) for row in rows])},
        )


@cache
def _from_json(statement: Insert, names: tuple[str, ...]) -> Insert:
    columns = statement.table.columns
    rows = func.json_to_recordset(
        cast(bindparam("rows", type_=Text), postgresql.JSON)
    ).table_valued(*(column(name, columns[name].type) for name in names))
    source = rows.render_derived(name="given", with_types=True)
    return statement.from_select(list(names), select(*(source.c[name] for name in names)))


@cache
def plain_insert(table: Table) -> Insert:
    """An INSERT of what can't be there yet."""
    return insert(table)


@cache
def insert_or_ignore(dialect: str, table: Table) -> Any:
    """An INSERT that leaves a row as it is which is there already."""
    if dialect in _MYSQL:
        # A column is set to what it is. Not the number that MySQL gives: it refuses that
        # ("conflicts with internally generated values") where a row behind this one is new.
        kept = next(column for column in table.columns if column is not table.autoincrement_column)
        return mysql.insert(table).on_duplicate_key_update({kept.name: kept})
    return _insert(dialect)(table).on_conflict_do_nothing()


@cache
def insert_or_replace(dialect: str, table: Table, key: str, columns: tuple[str, ...]) -> Any:
    """An INSERT that puts these columns into the row that has the same `key`."""
    return _on_conflict(dialect, table, [key], columns, lambda _mine, theirs: theirs)


@cache
def insert_or_add(dialect: str, table: Table, columns: tuple[str, ...]) -> Any:
    """An INSERT that adds these columns to those of the row that is there already."""
    return _on_conflict(
        dialect, table, list(table.primary_key), columns, lambda mine, theirs: mine + theirs
    )


def _on_conflict(
    dialect: str,
    table: Table,
    key: Sequence[Any],
    columns: Sequence[str],
    merged: Callable[[Any, Any], Any],
) -> Any:
    statement = _insert(dialect)(table)
    theirs = statement.inserted if dialect in _MYSQL else statement.excluded
    values = {name: merged(table.c[name], theirs[name]) for name in columns}
    if dialect in _MYSQL:
        return statement.on_duplicate_key_update(values)
    return statement.on_conflict_do_update(index_elements=key, set_=values)


def _insert(dialect: str) -> Any:
    return {"sqlite": sqlite, "postgresql": postgresql}.get(dialect, mysql).insert


def insert_if_absent(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert a row unless one with its key is there; returns whether it was. Waits for who is just
    inserting that.
    """
    if connection.dialect.name not in _MYSQL:
        add = _insert(connection.dialect.name)(table).on_conflict_do_nothing().inline()
        return connection.execute(add.execution_options(preserve_rowcount=True), row).rowcount == 1
    try:
        connection.execute(insert(table), row)
    except IntegrityError as error:  # undoes only the statement, not the transaction
        if error.orig is None or error.orig.args[0] != _DUPLICATE_ENTRY:
            raise
        return False
    return True
