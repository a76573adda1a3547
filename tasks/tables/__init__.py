"""Writes tables of any length to files: rows come from an iterator, and go to the file one by one.

    write("xlsx", file, "Guests of July", [Table("Attendees", ["name", "email"], rows)])

CSV, XLSX and JSON take constant memory. A PDF is in memory until it is done, so its rows are
limited.
"""

from tasks.tables.table import FORMATS, Table, TableError, write

__all__ = ["FORMATS", "Table", "TableError", "write"]
