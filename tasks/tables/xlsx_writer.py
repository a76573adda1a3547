"""Writes XLSX with XlsxWriter in its constant-memory mode: each row goes to the disk before the
next one.

A text is always written as a text, never as a formula or a link. Rows beyond the limit of a sheet
go to another sheet.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import xlsxwriter

from tasks.tables.table import Table, as_cell

MOST_SHEET_ROWS = 1_048_576
LONGEST_TEXT = 32_767
_OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
_FORBIDDEN = str.maketrans(dict.fromkeys("[]:*?/\\'", " "))


def write(file: BinaryIO, title: str, tables: Iterable[Table]) -> None:
    with xlsxwriter.Workbook(file, _OPTIONS) as book:
        book.set_properties({"title": title[:255]})
        bold = book.add_format({"bold": True})
        for table in tables:
            rows, more = iter(table.rows), True
            while more:
                sheet = book.add_worksheet(_name(len(book.worksheets()) + 1, table.title))
                sheet.freeze_panes(1, 0)
                sheet.write_row(0, 0, table.columns, bold)
                more = _fill(sheet, rows)


def _fill(sheet: Any, rows: Iterator[Sequence[Any]]) -> bool:
    """Write rows until the sheet is full. Returns whether it is full."""
    last = 0
    for last, row in enumerate(itertools.islice(rows, MOST_SHEET_ROWS - 1), start=1):
        for column, value in enumerate(row):
            _put(sheet, last, column, as_cell(value))
    return last == MOST_SHEET_ROWS - 1


def _put(sheet: Any, row: int, column: int, value: Any) -> None:
    if isinstance(value, str) or (isinstance(value, float) and not math.isfinite(value)):
        sheet.write_string(row, column, str(value)[:LONGEST_TEXT])
    elif value is not None:
        sheet.write(row, column, value)


def _name(number: int, title: str) -> str:
    """A unique name for a sheet: at most 31 characters, without the forbidden ones."""
    return f"{number} {title.translate(_FORBIDDEN)}"[:31]
