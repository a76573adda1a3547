"""Writes JSON row by row: a title, and a list of tables, each with its title, columns and rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, BinaryIO

from tasks.tables.table import Table


def write(file: BinaryIO, title: str, tables: Iterable[Table]) -> None:
    file.write(b'{"title": ' + _json(title) + b', "tables": [')
    for number, table in enumerate(tables):
        file.write(b",\n" if number else b"\n")
        file.write(
            b'{"title": '
            + _json(table.title)
            + b', "columns": '
            + _json(list(table.columns))
            + b', "rows": ['
        )
        file.writelines(
            (b",\n" if line else b"\n") + _json(list(row)) for line, row in enumerate(table.rows)
        )
        file.write(b"]}")
    file.write(b"]}\n")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=_moment).encode()


def _moment(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
