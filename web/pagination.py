"""Lists, a page at a time: `?limit=50&after=<the last id>`; `next` is the `after` of the next page,
null at the end.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel
from sqlalchemy import Select

from app.models import session
from web.schemas import LARGEST_ID

Limit = Annotated[int, Query(ge=1, le=200)]
After = Annotated[int | None, Query(ge=0, le=LARGEST_ID)]


class Page(BaseModel):
    """Rows, newest last, and where the next page begins."""

    items: list[dict[str, Any]]
    next: int | None


def page(
    query: Select[Any], model: Any, limit: int, after: int | None, fields: tuple[str, ...]
) -> Page:
    """A page of `model`'s rows, with these fields."""
    if after is not None:
        query = query.where(model.id > after)
    with session() as db:
        rows = db.scalars(query.order_by(model.id).limit(limit + 1)).all()
    items = [as_dict(row, fields) for row in rows[:limit]]
    return Page(items=items, next=rows[limit - 1].id if len(rows) > limit else None)


def as_dict(row: Any, fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("id", *fields)}
