"""Tables of any length as files: rows come from an iterator and go to the file one by one.

    write("xlsx", file, "Guests of July", [Table("Attendees", ["name", "email"], rows)])

CSV, XLSX and JSON are written in constant memory. A PDF lies in memory until it is done, so it has
a limit.
"""

from tasks.tables.table import FORMATS, Table, TableError, write

__all__ = ["FORMATS", "Table", "TableError", "write"]
