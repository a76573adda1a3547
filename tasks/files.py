"""Stores uploads, and processes 1 to 50 pictures of a user as one batch. The user gets a mail when
the batch has ended.
"""

from __future__ import annotations

import contextlib
import mimetypes
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, BinaryIO

from celery.utils.log import get_task_logger
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.models import File, FileBatch, Import, session, undo_on_rollback
from relevo.errors import OptionError
from tasks import app, email, images, storage

logger = get_task_logger(__name__)

MOST_FILES = 50


def store(user_id: int, name: str, source: BinaryIO) -> File:
    """Put an upload on the default disk, and write its row."""
    with put(user_id, name, source, "uploads") as file, session() as db:
        db.add(file)
    return file


@contextlib.contextmanager
def put(user_id: int, name: str, source: BinaryIO, folder: str) -> Iterator[File]:
    """Put an upload on the default disk under a random name. Yields its row, not written yet.

    When the block raises, or its transaction is rolled back, the upload is deleted. It is kept if a
    row names it all the same (a commit without a confirmation), or if the database can't be asked:
    no row may lose its file.
    """
    disk, path = storage.default(), f"{folder}/{secrets.token_hex(8)}{_suffix(name)}"
    size = storage.disk(disk).put(path, source)
    shown = "".join(letter for letter in name if letter.isprintable())[-255:] or "unnamed"
    mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
    with undo_on_rollback(lambda: _discard(disk, path)):
        yield File(user_id=user_id, disk=disk, path=path, original_name=shown, mime=mime, size=size)


def _discard(disk: str, path: str) -> None:
    if not _is_referenced(path):
        storage.disk(disk).delete(path)


def _is_referenced(path: str) -> bool:
    """Whether a row names this path. True, too, when the database can't be asked."""
    try:
        with session() as db:
            return any(
                db.scalar(select(model.id).filter_by(path=path).limit(1))
                for model in (File, Import)
            )
    except SQLAlchemyError:
        return True


def process_batch(
    user_id: int, file_ids: Sequence[int], sizes: Mapping[str, int] | None = None
) -> str:
    """Process files of a user as one batch. Returns its id.

    The caller checks that the files are the user's.
    """
    if not 1 <= len(file_ids) <= MOST_FILES or len(set(file_ids)) != len(file_ids):
        raise OptionError(
            f"expected 1 to {MOST_FILES} different files, got {list(file_ids)!r:.100}"
        )
    members = (
        images.process.s(number, dict(sizes) if sizes else None, user_id=user_id)
        for number in file_ids
    )
    batch = (
        app.batch(members)
        .name(f"{len(file_ids)} files of user {user_id}")
        .allow_failures()
        .then(all_processed.s())
        .catch(first_failed.s())
        .finally_(batch_done.s(user_id))
    )
    with session() as db:
        made = batch.dispatch(session=db)
        db.add(FileBatch(id=made.id, user_id=user_id))
    return str(made.id)


@app.task(name="files.all_processed")
def all_processed(batch_id: str) -> None:
    """Every file of a batch was processed."""
    logger.info("batch %s: every file was processed", batch_id)


@app.task(name="files.first_failed")
def first_failed(batch_id: str) -> None:
    """The first file of a batch could not be processed; the others go on."""
    logger.warning("batch %s: a file could not be processed", batch_id)


@app.task(name="files.batch_done", bind=True, tries=3, timeout=30, backoff=[10, 60])
def batch_done(self: Any, batch_id: str, user_id: int) -> str:  # noqa: ARG001
    """Mail the user how many of how many files were processed."""
    batch = app.batches.find(batch_id)
    if batch is None:
        return "the batch was pruned"
    with session() as db:
        email.send_once(
            db,
            f"batch-{batch_id}",
            "files_done",
            user_id,
            done=batch.completed,
            total=batch.total,
            failed=batch.failed,
        )
    return f"{batch.completed} of {batch.total} processed"


def _suffix(name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""
