"""`with session() as db:` — one transaction: committed at the end of the block, undone when the block raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy.orm import Session

from app import settings
from app.models import schema
from relevo.engine import engine_for


@contextlib.contextmanager
def session(url: str | None = None) -> Iterator[Session]:
    """A session on the database of DATABASE_URL, or of `url`; the tables are there (or a SchemaError says what to do).

    On SQLite the transaction holds the one write lock from the start: don't mail or compute inside it, and dispatch
    with it (`session=db`) or after it.
    """
    engine = engine_for(url or settings.engine().database_url)
    schema.require(engine)
    with Session(engine, expire_on_commit=False) as opened, opened.begin():
        yield opened
