"""Writes CSV in UTF-8. A text that a spreadsheet would run as a formula gets an apostrophe in
front, as OWASP advises.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any, BinaryIO

from tasks.tables.table import Table, as_cell

# Characters that spreadsheets take for the beginning of a formula, or skip in front of one. The
# last four are = + - @ in full width, which some spreadsheets treat alike.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write(file: BinaryIO, title: str, tables: Iterable[Table]) -> None:
    """Write the tables. Several tables have headings, and an empty line between them."""
    text = io.TextIOWrapper(file, "utf-8", newline="")
    out = csv.writer(text)
    several = list(tables)
    for number, table in enumerate(several):
        if len(several) > 1:
            out.writerows([[], [table.title]] if number else [[title], [], [table.title]])
        out.writerow([escape_formula(column) for column in table.columns])
        out.writerows([escape_formula(as_cell(value)) for value in row] for row in table.rows)
    text.flush()
    text.detach()


def escape_formula(value: Any) -> Any:
    """A value that no spreadsheet runs as a formula. Numbers stay numbers."""
    return (
        f"'{value}"
        if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_STARTS)
        else value
    )
