"""Tags that somebody keeps an eye on, and how many jobs have a tag."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select

from relevo import clock
from relevo.database import text, upserts
from relevo.store import window_scan
from relevo.store.store import Store
from relevo.store.tables import failed, tags, watched

# The tags of so many of the latest jobs are "recent".
RECENT_JOBS = 2000
#: More is not counted: a million is read for a second.
MANY = 10_000


def watch(store: Store, tag: str) -> None:
    """Keep an eye on a tag. One that is watched stays so."""
    row = {"tag": text.name(tag), "at": clock.now()}
    store.write(
        lambda connection: connection.execute(
            upserts.insert_or_ignore(connection.dialect.name, watched), row
        )
    )


def unwatch(store: Store, tag: str) -> int:
    """No longer. Returns how many tags there were: 1 or 0."""
    gone = delete(watched).where(watched.c.tag == text.name(tag))
    return store.write(lambda connection: int(connection.execute(gone).rowcount))


def list_all(store: Store) -> list[str]:
    """The watched tags, by name."""
    query = select(watched.c.tag).order_by(watched.c.tag)
    return store.read(lambda connection: list(connection.execute(query).scalars()))


def count_jobs(store: Store, names: Sequence[str], most: int | None = None) -> dict[str, int]:
    """How many jobs that are kept have each of these tags, counted up to `most` (MANY). By an
    index: no job is read.
    """
    some = select(tags.c.uuid).distinct()
    return {
        tag: window_scan.count_up_to(store, some.where(tags.c.tag == tag), most or MANY)
        for tag in names
    }


def count_failed(store: Store, names: Sequence[str], most: int | None = None) -> dict[str, int]:
    """How many failed jobs that were not retried have each of these tags, counted up to `most`
    (MANY).
    """
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
    """Those of these tags that many jobs have."""
    return {tag for tag, jobs in count_jobs(store, names).items() if jobs >= MANY}


def find_recent(store: Store, most: int = 50) -> list[str]:
    """The tags that the latest jobs have most often."""
    latest = select(tags.c.tag).order_by(tags.c.id.desc()).limit(RECENT_JOBS).subquery()
    query = (
        select(latest.c.tag)
        .group_by(latest.c.tag)
        .order_by(func.count().desc(), latest.c.tag)
        .limit(most)
    )
    return store.read(lambda connection: list(connection.execute(query).scalars()))
