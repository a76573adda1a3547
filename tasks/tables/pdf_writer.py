"""Writes PDF with fpdf2: headings and tables over as many numbered pages as needed.

fpdf2's own tables keep every cell until the end. Here a row is drawn and dropped, but the pages are
in memory until the file is written. Hence the limit: 20,000 rows of six columns took 49 MB and 15
s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from app import settings
from tasks.tables.table import Table, TableError, as_cell

MOST_ROWS = 20_000
_FONTS = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
    "/Library/Fonts/Arial Unicode.ttf",
    "/System/Library/Fonts/Supplemental/Arial Unicode.ttf",
)
_LINE = 6
_TEXT, _HEADING, _TITLE = 8, 11, 15


def write(file: BinaryIO, title: str, tables: Iterable[Table]) -> None:
    document = PdfDocument()
    document.set_title(title)
    document.add_page()
    document.heading(title, _TITLE)
    left = MOST_ROWS
    for table in tables:
        left = _draw(document, table, left)
    file.write(bytes(document.output()))


class PdfDocument(FPDF):
    """A4 in landscape, in a font with all letters if this machine has one."""

    def __init__(self) -> None:
        super().__init__(orientation="landscape", format="A4")
        self.set_auto_page_break(auto=True, margin=15)
        font = settings.application().pdf_font or next(
            filter(Path.is_file, map(Path, _FONTS)), None
        )
        self._western = font is None
        self._face = "helvetica"
        if font is not None:
            self._face = "own"
            self.add_font(self._face, fname=font)

    def footer(self) -> None:
        self.set_y(-12)
        self._use(_TEXT)
        self.cell(0, _LINE, f"{self.page_no()}", align="C")

    def heading(self, text: str, size: int) -> None:
        self._use(size)
        self.cell(
            0,
            _LINE * size / _TEXT * 0.8,
            self.fit(text, self.epw),
            new_x=XPos.LMARGIN,
            new_y=YPos.NEXT,
        )

    def row(self, values: Sequence[Any]) -> None:
        """Draw one row. A text that is too long for its column is cut."""
        self._use(_TEXT)
        width = self.epw / max(1, len(values))
        for value in values:
            self.cell(
                width,
                _LINE,
                self.fit("" if value is None else str(as_cell(value)), width),
                border="B",
            )
        self.ln(_LINE)

    def fit(self, text: str, width: float) -> str:
        text = "".join(letter if letter.isprintable() else " " for letter in text[:500])
        if self._western:
            text = text.encode("latin-1", "replace").decode("latin-1")
        dots = "..."
        if self.get_string_width(text) <= width - 2:
            return text
        while text and self.get_string_width(text + dots) > width - 2:
            text = text[: max(0, min(len(text) - 1, int(len(text) * 0.9)))]
        return text + dots

    def _use(self, size: int) -> None:
        self.set_font(self._face, size=size)


def _draw(document: PdfDocument, table: Table, left: int) -> int:
    document.ln(_LINE)
    document.heading(table.title, _HEADING)
    document.row(table.columns)
    for row in table.rows:
        if not left:
            raise TableError(f"expected at most {MOST_ROWS:,} rows for a PDF; ask for csv or xlsx")
        document.row(row)
        left -= 1
    return left
