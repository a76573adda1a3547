"""Reads the rows of a query page by page, each page in its own transaction: a long read holds no
lock and little memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Select

from app.models.session import session

PAGE = 1000


def iterate_pages(
    query: Select[Any], key: ColumnElement[int] | Any, page: int = PAGE
) -> Iterator[Any]:
    """All rows of `query`, ordered by the unique `key`, which must be its first column. Rows that
    are inserted meanwhile may be among them.
    """
    after = None
    while True:
        part = query.order_by(key).limit(page)
        with session() as db:
            rows = db.execute(part if after is None else part.where(key > after)).all()
        yield from rows
        if len(rows) < page:
            return
        after = rows[-1][0]
