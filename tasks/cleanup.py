"""Deletes old data, on the schedule of beat_schedule.py. All of these tasks may run twice, or two
at the same time.
"""

from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete, select, update

from app.models import (
    Answer,
    Delivery,
    Export,
    FileBatch,
    Import,
    Mail,
    Report,
    RequestCount,
    Token,
    session,
)
from app.models.base import now
from relevo import clock
from relevo.store import failed, receipts
from relevo.store.store import store_for
from tasks import app, storage

DAY = 24 * 60 * 60
PAGE = 500


@app.task(name="cleanup.temporary_files")
def temporary_files(older_than: float = DAY) -> int:
    """Delete half-written files of killed processes on the local disk. Returns how many."""
    # LocalDisk's temporary names begin with a dot. An upload with the name `x.part` doesn't match.
    return sum(
        _delete(path, clock.now() - older_than) for path in app.settings.storage.rglob(".*.part")
    )


@app.task(name="cleanup.documents")
def documents() -> int:
    """Delete the files of reports and exports whose links have expired. Their rows stay. Returns
    how many.
    """
    return sum(_expired(model) for model in (Report, Export))


@app.task(name="cleanup.uploads")
def uploads(older_than: float = 30 * DAY) -> int:
    """Delete the files of imports that ended long ago. The results of their rows stay. Returns how
    many.
    """
    ended = select(Import).where(
        Import.finished_at < now() - timedelta(seconds=older_than), Import.path != ""
    )
    with session() as db:
        rows = db.scalars(ended.limit(PAGE)).all()
    for row in rows:
        storage.disk(row.disk).delete(row.path)
        with session() as db:
            db.execute(
                update(Import).where(Import.id == row.id).values(path="")
            )  # none, if it was deleted meanwhile
    return len(rows)


@app.task(name="cleanup.failed_jobs")
def failed_jobs(older_than: float = 30 * DAY) -> int:
    """Prune old failed jobs. Returns how many."""
    return failed.prune(store_for(app.settings.database_url), clock.now() - older_than)


@app.task(name="cleanup.batches")
def batches(finished: float = 7 * DAY, unfinished: float = 30 * DAY) -> int:
    """Prune batches that ended long ago, older ones that never ended, and receipts. Returns how
    many batches.
    """
    now_ = clock.now()
    receipts.prune(store_for(app.settings.database_url), now_ - unfinished)
    with session() as db:
        db.execute(
            delete(FileBatch).where(FileBatch.created_at < now() - timedelta(seconds=unfinished))
        )
    return app.batches.prune(finished=now_ - finished, unfinished=now_ - unfinished)


@app.task(name="cleanup.records")
def records(older_than: float = 90 * DAY) -> int:
    """Delete expired tokens, answers and counts of the API, and old rows of the mail and webhook
    logs. Returns how many.
    """
    old, day, moment = now() - timedelta(seconds=older_than), now() - timedelta(days=1), now()
    conditions = [
        (Token, Token.expires_at < moment - timedelta(days=30)),
        (Answer, Answer.created_at < day),
        (RequestCount, RequestCount.minute < int(clock.now()) // 60 - 60),
        (Mail, Mail.created_at < old),
        (Delivery, Delivery.created_at < old),
    ]
    gone = 0
    for model, condition in conditions:
        with session() as db:
            gone += db.execute(delete(model).where(condition)).rowcount
    return gone


def _expired(model: type[Report | Export]) -> int:
    with session() as db:
        rows = db.scalars(
            select(model).where(model.expires_at < now(), model.path.is_not(None)).limit(PAGE)
        ).all()
    for row in rows:
        storage.disk(row.disk).delete(row.path)
        with session() as db:
            db.execute(update(model).where(model.id == row.id).values(path=None))
    return len(rows)


def _delete(path: Path, before: float) -> bool:
    try:
        old = path.is_file() and not path.is_symlink() and path.stat().st_mtime < before
        if old:
            path.unlink()
    except FileNotFoundError:  # its writer has finished it, or another run was faster
        return False
    return old
