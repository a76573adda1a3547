"""Lists in pages: `?limit=50&after=<id>`. `next` in the answer is the `after` of the next page; it
is null at the end.
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
    """Rows, oldest first, and the `after` of the next page."""

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
