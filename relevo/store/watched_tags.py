"""The tags that people watch, and how many jobs have a tag."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select

from relevo import clock
from relevo.database import text, upserts
from relevo.store import window_scan
from relevo.store.store import Store
from relevo.store.tables import failed, tags, watched

# A tag of one of so many latest jobs is recent.
RECENT_JOBS = 2000
#: Counts end here, because counting a million takes a second. A tag of so many jobs is common.
MANY = 10_000


def watch(store: Store, tag: str) -> None:
    """Watch a tag. Watching it twice is no error."""
    row = {"tag": text.name(tag), "at": clock.now()}
    store.write(
        lambda connection: connection.execute(
            upserts.insert_or_ignore(connection.dialect.name, watched), row
        )
    )


def unwatch(store: Store, tag: str) -> int:
    """Stop watching a tag. Returns how many tags that were: 1 or 0."""
    gone = delete(watched).where(watched.c.tag == text.name(tag))
    return store.write(lambda connection: int(connection.execute(gone).rowcount))


def list_all(store: Store) -> list[str]:
    """Return the watched tags, by name."""
    query = select(watched.c.tag).order_by(watched.c.tag)
    return store.read(lambda connection: list(connection.execute(query).scalars()))


def count_jobs(store: Store, names: Sequence[str], most: int | None = None) -> dict[str, int]:
    """Count the kept jobs with each of these tags, up to `most` (MANY).

    It reads an index only, no job.
    """
    some = select(tags.c.uuid).distinct()
    return {
        tag: window_scan.count_up_to(store, some.where(tags.c.tag == tag), most or MANY)
        for tag in names
    }


def count_failed(store: Store, names: Sequence[str], most: int | None = None) -> dict[str, int]:
    """Count the failed jobs with each of these tags that were not retried, up to `most` (MANY)."""
    some = (
        select(failed.c.id)
        .join(tags, failed.c.uuid == tags.c.uuid)
        .where(failed.c.retried_at.is_(None))
        .distinct()
    )
    return {
        tag: window_scan.count_up_to(store, some.where(tags.c.tag == tag), most or MANY)
        for tag in names
    }


def find_common(store: Store, names: Sequence[str]) -> set[str]:
    """Return those of these tags that many jobs have."""
    return {tag for tag, jobs in count_jobs(store, names).items() if jobs >= MANY}


def find_recent(store: Store, most: int = 50) -> list[str]:
    """Return the most frequent tags of the latest jobs."""
    latest = select(tags.c.tag).order_by(tags.c.id.desc()).limit(RECENT_JOBS).subquery()
    query = (
        select(latest.c.tag)
        .group_by(latest.c.tag)
        .order_by(func.count().desc(), latest.c.tag)
        .limit(most)
    )
    return store.read(lambda connection: list(connection.execute(query).scalars()))
