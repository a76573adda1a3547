"""The tables of user activity and file statistics. An administrator's report covers all users, any
other report its own user.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, func, select

from app.models import (
    Event,
    Export,
    File,
    FileVersion,
    Import,
    Mail,
    Order,
    Report,
    User,
    Webhook,
    session,
)
from app.models.pagination import iterate_pages
from tasks.tables import Table

#: The rows of a user that are counted, by their name in the report.
KINDS = {
    "files": File,
    "reports": Report,
    "exports": Export,
    "imports": Import,
    "events": Event,
    "orders": Order,
    "mails": Mail,
    "webhooks": Webhook,
}


def user_activity(user_id: int) -> list[Table]:
    """Each user: the number of their rows of each kind, and the time of the newest one."""
    return [
        Table(
            "User activity",
            ["user", "name", "email", "since", *KINDS, "last active"],
            _activity(user_id),
        )
    ]


def _activity(user_id: int) -> Iterator[Any]:
    query = _own(select(User.id, User.name, User.email, User.created_at), User.id, user_id)
    page: list[Any] = []
    for row in iterate_pages(query, User.id):
        page.append(row)
        if len(page) == 200:  # noqa: PLR2004  users counted with one query a kind
            yield from _counted(page)
            page = []
    yield from _counted(page)


def _counted(users: list[Any]) -> Iterator[list[Any]]:
    ids = [user.id for user in users]
    counts: dict[str, dict[int, tuple[int, Any]]] = {}
    with session() as db:
        for name, model in KINDS.items():
            query = select(model.user_id, func.count(), func.max(model.created_at)).where(
                model.user_id.in_(ids)
            )
            counts[name] = {
                row[0]: (row[1], row[2]) for row in db.execute(query.group_by(model.user_id))
            }
    for user in users:
        own = [counts[name].get(user.id, (0, None)) for name in KINDS]
        last = max((when for _, when in own if when is not None), default=None)
        yield [*user, *(number for number, _ in own), last]


def file_statistics(user_id: int) -> list[Table]:
    """Files by their type, and their versions by size."""
    kinds = (
        select(
            File.mime,
            func.count(),
            func.sum(File.size),
            func.count(File.processed_at),
            func.count(File.error),
            func.avg(File.size),
        )
        .group_by(File.mime)
        .order_by(File.mime)
    )
    versions = (
        select(
            FileVersion.name, func.count(), func.sum(FileVersion.bytes), func.avg(FileVersion.bytes)
        )
        .join(File)
        .group_by(FileVersion.name)
        .order_by(FileVersion.name)
    )
    queries = [_own(query, File.user_id, user_id) for query in (kinds, versions)]
    with session() as db:
        files, made = ([_numbers(row) for row in db.execute(query)] for query in queries)
        return [
            Table("Files", ["kind", "files", "bytes", "processed", "failed", "bytes each"], files),
            Table("Versions", ["size", "versions", "bytes", "bytes each"], made),
        ]


def _numbers(row: Any) -> list[Any]:
    """A row whose numbers (decimals, from some databases) are rounded to whole ones."""
    return [row[0], *(None if value is None else round(value) for value in row[1:])]


def _own(query: Select[Any], column: Any, user_id: int) -> Select[Any]:
    with session() as db:
        user = db.get(User, user_id)
    return query if user is not None and user.admin else query.where(column == user_id)
