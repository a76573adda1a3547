"""Tags that somebody keeps an eye on, and how many jobs have a tag."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, distinct, func, select

from relevo import clock
from relevo.store import texts, upserts
from relevo.store.session import Store
from relevo.store.tables import failed, tags, watched

# The tags of so many of the latest jobs are "recent".
RECENT = 2000


def watch(store: Store, tag: str) -> None:
    """Keep an eye on a tag. One that is watched stays so."""
    row = {"tag": texts.name(tag), "at": clock.now()}
    store.write(lambda connection: connection.execute(upserts.ignoring(connection.dialect.name, watched), row))


def unwatch(store: Store, tag: str) -> int:
    """No longer. Returns how many tags there were: 1 or 0."""
    gone = delete(watched).where(watched.c.tag == texts.name(tag))
    return store.write(lambda connection: int(connection.execute(gone).rowcount))


def listed(store: Store) -> list[str]:
    """The watched tags, by name."""
    query = select(watched.c.tag).order_by(watched.c.tag)
    return store.read(lambda connection: list(connection.execute(query).scalars()))


def counts(store: Store, names: Sequence[str]) -> dict[str, int]:
    """How many jobs that are kept have each of these tags. By an index, without reading a job."""
    query = select(tags.c.tag, func.count(distinct(tags.c.uuid))).where(tags.c.tag.in_(names)).group_by(tags.c.tag)
    return {tag: int(jobs) for tag, jobs in store.read(lambda connection: connection.execute(query).all())}


def failures(store: Store, names: Sequence[str]) -> dict[str, int]:
    """How many failed jobs that were not retried have each of these tags."""
    query = (
        select(tags.c.tag, func.count(distinct(failed.c.id)))
        .join(failed, failed.c.uuid == tags.c.uuid)
        .where(tags.c.tag.in_(names), failed.c.retried_at.is_(None))
        .group_by(tags.c.tag)
    )
    return {tag: int(jobs) for tag, jobs in store.read(lambda connection: connection.execute(query).all())}


def recent(store: Store, most: int = 50) -> list[str]:
    """The tags that the latest jobs have most often."""
    latest = select(tags.c.tag).order_by(tags.c.id.desc()).limit(RECENT).subquery()
    query = select(latest.c.tag).group_by(latest.c.tag).order_by(func.count().desc(), latest.c.tag).limit(most)
    return store.read(lambda connection: list(connection.execute(query).scalars()))
