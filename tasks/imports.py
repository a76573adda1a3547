"""imports.users: makes users of a CSV of names and addresses, in chunks that run in parallel. Each
row is reported as good or bad.

    split: find where each chunk starts and ends -> a batch of imports.chunk
        -> imports.finish: count the rows, mail the user

Only one chunk is in memory. A chunk's users, their welcome mails and its reports are one
transaction, so a killed chunk has done all or nothing, and a second run finds the reports and
imports no row twice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.models import Import, ImportRow, State, User, session
from app.models.base import now
from relevo.errors import DiskError, OptionError
from tasks import app, email, files, storage
from tasks.dispatch import add_with_job

#: Rows in a chunk.
CHUNK = 500
#: Bad rows that the mail names; the API has them all.
SHOWN = 20
NAME, ADDRESS = "name", "email"
LONGEST_LINE = 100_000
LONGEST_NAME = 255


def tags_of(import_id: int, *_chunk: Any) -> list[str]:
    return ["import", f"import:{import_id}"]


def store(user_id: int, name: str, source: BinaryIO) -> tuple[int, str]:
    """Store a CSV and dispatch its import. Returns the ids of the import and of the job."""
    with files.put(user_id, name, source, "imports") as file, session() as db:
        row = Import(user_id=user_id, name=file.original_name, disk=file.disk, path=file.path)
        job = add_with_job(db, row, users)
        return row.id, job


@app.task(name="imports.users", bind=True, tries=3, timeout=600, backoff=[10, 60], tags=tags_of)
def users(self: Any, import_id: int) -> dict[str, Any]:
    """Split an import and dispatch its chunks. Returns how many they are."""
    row = _get_import(import_id)
    if row.state == State.COMPLETED:  # by an earlier run; a failed import may be retried by hand
        return {"import": import_id, "skipped": "it is completed"}
    try:
        chunks = list(split(storage.disk(row.disk).open(row.path)))
    except OptionError as error:
        self.fail(error)
    with session() as db:
        row = db.get_one(Import, import_id, with_for_update=True)
        # An earlier run may have been killed behind its dispatch, and its chunks have completed it.
        if row.state == State.COMPLETED:
            return {"import": import_id, "skipped": "it is completed"}
        row.chunks, row.state, row.error, row.finished_at = len(chunks), State.PENDING, None, None
    members = (chunk.s(import_id, *where) for where in chunks)
    if chunks:
        app.batch(members).name(
            f"import of users {now():%Y-%m-%d %H:%M:%S}"
        ).allow_failures().finally_(finish.si(import_id)).dispatch(id=f"import-{import_id}")
    else:
        finish.delay(import_id)
    return {"import": import_id, "chunks": len(chunks)}


@users.failed
def users_failed(job: Any, error: BaseException) -> None:
    """Write the error into the import's row, and mail the user."""
    import_id = job.args[0] if job.args else job.kwargs["import_id"]
    with session() as db:
        row = db.get(Import, import_id)
        if row is None:
            return
        row.state, row.error, row.finished_at = State.FAILED, email.error_line(error), now()
        about = f"import-{import_id}-failed"
        email.send_once(db, about, "document_failed", row.user_id, what="import", error=row.error)


@app.task(name="imports.chunk", bind=True, tries=3, timeout=300, backoff=[5, 30], tags=tags_of)
def chunk(
    self: Any,  # noqa: ARG001
    import_id: int,
    first: int,
    start: int,
    end: int,
    columns: list[str],
    comma: str,
) -> int:
    """Import the rows between the bytes `start` and `end` of the file. `first` is the number of the
    first row. Returns how many rows are good.
    """
    row = _get_import(import_id)
    with storage.disk(row.disk).open(row.path) as file:
        file.seek(start)
        text = file.read(end - start).decode()
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=comma))
    with session() as db:
        reports = (
            select(func.count())
            .select_from(ImportRow)
            .where(
                ImportRow.import_id == import_id,
                ImportRow.number >= first,
                ImportRow.number < first + len(rows),
            )
        )
        if not db.scalar(reports):
            # Two chunks with the same addresses in another order can end in a deadlock. Then one of
            # them is tried again.
            for number, cells in enumerate(rows, first):
                if cells:  # no empty line
                    _import_row(db, import_id, number, dict(zip(columns, cells, strict=False)))
        return db.scalar(reports.where(ImportRow.error.is_(None))) or 0


@chunk.failed
def chunk_failed(job: Any, error: BaseException) -> None:
    """Report every row of the chunk as bad, unless it was reported before.

    If the file is gone, the number of rows is unknown, and the first row stands for all.
    """
    import_id, first, start, end, _, comma = job.args
    row, count = _get_import(import_id), 1
    with suppress(DiskError, OSError), storage.disk(row.disk).open(row.path) as file:
        file.seek(start)
        count = sum(
            1
            for _ in csv.reader(
                io.StringIO(file.read(end - start).decode(), newline=""), delimiter=comma
            )
        )
    with session() as db:
        query = select(ImportRow.number).where(
            ImportRow.import_id == import_id, ImportRow.number >= first
        )
        there = set(db.scalars(query.where(ImportRow.number < first + count)))
        db.add_all(
            ImportRow(import_id=import_id, number=number, error=email.error_line(error))
            for number in range(first, first + count)
            if number not in there
        )


@app.task(name="imports.finish", bind=True, tries=3, timeout=60, backoff=[10, 60], tags=tags_of)
def finish(self: Any, import_id: int) -> dict[str, int]:  # noqa: ARG001
    """Count the rows after all chunks have ended, and mail the user."""
    with session() as db:
        row = db.get_one(Import, import_id)
        reports = select(func.count()).select_from(ImportRow).filter_by(import_id=import_id)
        row.bad = db.scalar(reports.where(ImportRow.error.is_not(None))) or 0
        row.good = (db.scalar(reports) or 0) - row.bad
        row.state, row.finished_at = State.COMPLETED, now()
        bad = select(ImportRow).where(
            ImportRow.import_id == import_id, ImportRow.error.is_not(None)
        )
        shown = db.scalars(bad.order_by(ImportRow.number).limit(SHOWN)).all()
        counted = {"good": row.good, "bad": row.bad}
        email.send_once(
            db,
            f"import-{import_id}-done",
            "import_done",
            row.user_id,
            name=row.name,
            **counted,
            rows=[{"number": one.number, "error": one.error} for one in shown],
        )
    return counted


# --- the file -------------------------------------------------------------------------------------
def split(file: Any) -> Iterator[tuple[int, int, int, list[str], str]]:
    """The chunks of a CSV: number of the first row, first and last byte, columns, delimiter.

    Raises OptionError. csv.reader reads no more lines than a row needs, so the number of bytes read
    is the place where the next row starts.
    """
    with file:
        lines = Lines(file)
        heading = next(lines, "").removeprefix("\ufeff")
        comma = ";" if heading.count(";") > heading.count(",") else ","
        start, first, number = lines.read, 1, 1
        try:
            columns = [
                cell.strip().lower() for cell in next(csv.reader([heading], delimiter=comma), [])
            ]
            if not columns.count(NAME) == columns.count(ADDRESS) == 1:
                raise OptionError(
                    f"expected the first line to name {NAME!r} and {ADDRESS!r},"
                    f" got {heading!r:.100}"
                )
            for number, _ in enumerate(csv.reader(lines, delimiter=comma), 2):
                if number - first >= CHUNK:
                    yield first, start, lines.read, columns, comma
                    start, first = lines.read, number
        except csv.Error as error:
            raise OptionError(f"row {number} can't be read: {error}") from error
        if number > first:
            yield first, start, lines.read, columns, comma


class Lines:
    """The lines of a binary file as texts. `read` counts the bytes that were read."""

    def __init__(self, file: Any) -> None:
        self._file, self.read = file, 0

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        if len(line) > LONGEST_LINE:
            raise OptionError(f"expected lines of at most {LONGEST_LINE:,} bytes")
        self.read += len(line)
        try:
            return str(line.decode())
        except UnicodeDecodeError as error:
            wrong = line[error.start : error.end]
            raise OptionError(f"expected UTF-8, got {wrong!r} before byte {self.read:,}") from error


# --- a row ----------------------------------------------------------------------------------------
def _import_row(db: Session, import_id: int, number: int, cells: dict[str, str]) -> None:
    """Make the user of a row, dispatch their welcome mail, and write the report of the row."""
    name, address = cells.get(NAME, "").strip(), cells.get(ADDRESS, "").strip()
    # PostgreSQL stores no NUL.
    report = ImportRow(import_id=import_id, number=number, email=address[:254].replace("\0", ""))
    try:
        report.email, name = address_of(address), name_of(name)
        with db.begin_nested():
            db.add(user := User(name=name, email=report.email))
        email.send_once(db, f"welcome-{user.id}", "welcome", user.id)
    except IntegrityError:
        report.error = f"there is a user with the address {report.email}"
    except ValueError as error:
        report.error = str(error).partition("\n")[0][:1000]
    db.add(report)


def address_of(given: str) -> str:
    """An address in its normalized form, which the database keeps. Raises ValueError."""
    try:
        return validate_email(given, check_deliverability=False).normalized.lower()
    except EmailNotValidError as error:
        raise ValueError(f"expected an address, got {given!r:.60}: {error}") from error


def name_of(given: str) -> str:
    """A user's name. Raises ValueError for an empty, too long or unprintable one."""
    if not given or len(given) > LONGEST_NAME or not given.isprintable():
        raise ValueError(f"expected a name, got {given!r:.60}")
    return given


def _get_import(import_id: int) -> Import:
    with session() as db:
        row = db.get(Import, import_id)
    if row is None:
        raise LookupError(
            f"there is no import {import_id!r}: it was deleted, or is not committed yet"
        )
    return row
