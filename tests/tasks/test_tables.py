"""Tables as CSV, XLSX, PDF and JSON: values can be read back, and no spreadsheet runs them."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from datetime import UTC, datetime

import openpyxl
import pytest

from tasks.tables import Table, TableError, pdf_writer, write, xlsx_writer

MOMENT = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
ROWS = [[1, "Zoë, 🎉 “Ada”\nsecond", None, MOMENT], [2, "=1+1", 2.5, True]]


def written(kind, *tables, title="Everything"):
    file = io.BytesIO()
    write(kind, file, title, tables)
    return file.getvalue()


def test_csv_can_be_read_back():
    rows = list(
        csv.reader(
            io.StringIO(written("csv", Table("T", ["id", "text", "n", "at"], ROWS)).decode())
        )
    )
    assert rows == [
        ["id", "text", "n", "at"],
        ["1", ROWS[0][1], "", "2024-02-29 12:30:00"],
        ["2", "'=1+1", "2.5", "True"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "\n=1",
        "\uff1d1",
        '=HYPERLINK("http://x")',
    ],
)
def test_no_text_of_a_csv_is_a_formula(text):
    data = written("csv", Table("T", [text], [[text], [-1]])).decode()
    heading, cell, number = csv.reader(io.StringIO(data, newline=""))
    assert heading == cell == [f"'{text}"]
    assert number == ["-1"]


def test_xlsx_can_be_read_back_and_a_text_stays_a_text():
    book = openpyxl.load_workbook(
        io.BytesIO(
            written(
                "xlsx",
                Table("A/B: [x]", ["id", "text", "n", "at"], ROWS),
                Table("A/B", ["x"], [["http://x"], ["007"], [float("nan")]]),
            )
        )
    )
    first, second = book.worksheets
    assert first.title.startswith("1 A B")
    assert [cell.value for cell in first[3]] == [2, "=1+1", 2.5, True]
    assert first["B3"].data_type == "s"
    assert first["B2"].value == ROWS[0][1]
    assert [row[0].value for row in second.iter_rows()] == ["x", "http://x", "007", "nan"]


def test_rows_beyond_the_limit_of_a_sheet_go_to_another(monkeypatch):
    monkeypatch.setattr(xlsx_writer, "MOST_SHEET_ROWS", 4)
    book = openpyxl.load_workbook(
        io.BytesIO(written("xlsx", Table("T", ["n"], ([n] for n in range(7)))))
    )
    assert [[row[0].value for row in page.iter_rows()] for page in book.worksheets] == [
        ["n", 0, 1, 2],
        ["n", 3, 4, 5],
        ["n", 6],
    ]


def test_json_can_be_read_back():
    told = json.loads(written("json", Table("One", ["a"], [[1], ["ü"]]), Table("Two", [], [])))
    assert told == {
        "title": "Everything",
        "tables": [
            {"title": "One", "columns": ["a"], "rows": [[1], ["ü"]]},
            {"title": "Two", "columns": [], "rows": []},
        ],
    }


def test_a_pdf_has_pages_and_prints_any_letters(monkeypatch):
    rows = [[n, "Владимир 王 \x00 🎉" * 9, MOMENT] for n in range(100)]
    assert written("pdf", Table("Ünïcode", ["n", "text", "at"], rows)).startswith(b"%PDF-")
    monkeypatch.setattr(pdf_writer, "_FONTS", ())
    assert written("pdf", Table("Ünïcode", ["n", "text", "at"], rows)).count(b"/Type /Page\n") > 3


def test_a_pdf_of_too_many_rows_says_what_to_ask_for(monkeypatch):
    monkeypatch.setattr(pdf_writer, "MOST_ROWS", 10)
    with pytest.raises(TableError, match="at most 10 rows for a PDF; ask for csv or xlsx"):
        written("pdf", Table("T", ["n"], ([n] for n in range(11))))


@pytest.mark.parametrize("kind", ["doc", "CSV", "", None])
def test_an_unknown_format_is_a_clear_error(kind):
    with pytest.raises(TableError, match="expected a format \\(csv, xlsx, pdf, json\\)"):
        written(kind)


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_memory_does_not_grow_with_the_rows(kind, tmp_path):
    def peak(rows):
        tracemalloc.start()
        with (tmp_path / "file").open("wb") as file:
            write(
                kind,
                file,
                "T",
                [Table("T", ["n", "text"], ([n, f"text {n}" * 5] for n in range(rows)))],
            )
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(10)
    assert (
        peak(4_000) < peak(400) + 150_000
    )  # 3,600 rows of 50 bytes and more would be 180,000 at least
