"""A table, and the writer of each format."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from relevo.errors import RelevoError, did_you_mean

#: Format -> the module that writes it. A module is loaded at its first use.
FORMATS = {"csv": "csv_writer", "xlsx": "xlsx_writer", "pdf": "pdf_writer", "json": "json_writer"}


class TableError(RelevoError, ValueError):
    """The tables can't be written in this format."""


@dataclass(frozen=True, slots=True)
class Table:
    """A title, the names of the columns, and the rows. A cell is a text, a number, a datetime or
    None.
    """

    title: str
    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


def write(kind: str, file: BinaryIO, title: str, tables: Iterable[Table]) -> None:
    """Write the tables, one after the other, into `file`. Raises TableError."""
    if kind not in FORMATS:
        raise TableError(
            f"expected a format ({', '.join(FORMATS)}),"
            f" got {kind!r}{did_you_mean(str(kind), FORMATS)}"
        )
    importlib.import_module(f"tasks.tables.{FORMATS[kind]}").write(file, title, tables)


def as_cell(value: Any) -> Any:
    """The value of a cell in every format: a datetime as text in UTC, any other value as it is."""
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else value
