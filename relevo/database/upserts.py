"""INSERT statements for rows that may exist already, in the dialect of each database."""

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
    """Execute an INSERT with many rows, all with the same columns.

    PostgreSQL gets the rows as one JSON value. Its driver would send them one by one, which costs
    the worker three times as much.
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
    """Return an INSERT of rows that can't exist yet."""
    return insert(table)


@cache
def insert_or_ignore(dialect: str, table: Table) -> Any:
    """Return an INSERT that leaves an existing row unchanged."""
    if dialect in _MYSQL:
        # Sets one column to the value that it has. It must not be the auto-increment column: MySQL
        # refuses that ("conflicts with internally generated values") if a later row is new.
        kept = next(column for column in table.columns if column is not table.autoincrement_column)
        return mysql.insert(table).on_duplicate_key_update({kept.name: kept})
    return _insert(dialect)(table).on_conflict_do_nothing()


@cache
def insert_or_replace(dialect: str, table: Table, key: str, columns: tuple[str, ...]) -> Any:
    """Return an INSERT that sets these columns in the existing row with the same `key`."""
    return _on_conflict(dialect, table, [key], columns, lambda _mine, theirs: theirs)


@cache
def insert_or_add(dialect: str, table: Table, columns: tuple[str, ...]) -> Any:
    """Return an INSERT that adds these columns to those of the existing row."""
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
    """Insert a row unless one with its key exists. Returns whether it was inserted.

    Waits for another transaction that is inserting the same row.
    """
    if connection.dialect.name not in _MYSQL:
        add = _insert(connection.dialect.name)(table).on_conflict_do_nothing().inline()
        return connection.execute(add.execution_options(preserve_rowcount=True), row).rowcount == 1
    try:
        connection.execute(insert(table), row)
    except IntegrityError as error:  # undoes this statement only, not the transaction
        if error.orig is None or error.orig.args[0] != _DUPLICATE_ENTRY:
            raise
        return False
    return True
