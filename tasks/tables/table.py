"""What a table is, and which writer each format has."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from relevo.errors import RelevoError, did_you_mean

#: The formats there are, and the module that writes each, loaded when it is asked for.
FORMATS = {"csv": "csv_writer", "xlsx": "xlsx_writer", "pdf": "pdf_writer", "json": "json_writer"}


class TableError(RelevoError, ValueError):
    """What was asked for can't be written as a table."""


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, the names of the columns, and the rows. A cell is a text, a number, a moment or
    None.
    """

    title: str
    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


def write(kind: str, file: BinaryIO, title: str, tables: Iterable[Table]) -> None:
    """Write the tables, one after the other, into `file`. Raises TableError."""
    if kind not in FORMATS:
        raise TableError(
            f"expected a format ({', '.join(FORMATS)}), got {kind!r}{did_you_mean(str(kind), FORMATS)}"
        )
    importlib.import_module(f"tasks.tables.{FORMATS[kind]}").write(file, title, tables)


def as_cell(value: Any) -> Any:
    """A cell as every format shows it: moments as texts in UTC, the rest as it is."""
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else value
