"""What is made in the background for a user to fetch: reports and exports. And what a user brings:
imports.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import UTF8, Base, now


class State(StrEnum):
    """How far something made in the background is."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


STATES = "state IN ('pending', 'completed', 'failed', 'cancelled')"


class Document:
    """What a report and an export share. `path` is where it lies on `disk`, once it is completed."""

    id: Mapped[int] = mapped_column(primary_key=True)
    format: Mapped[str] = mapped_column(String(10))
    state: Mapped[str] = mapped_column(String(10), default=State.PENDING)
    job_id: Mapped[str | None] = mapped_column(String(64))
    disk: Mapped[str | None] = mapped_column(String(40))
    path: Mapped[str | None] = mapped_column(String(1000))
    size: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Report(Document, Base):
    __tablename__ = "reports"
    __table_args__ = (CheckConstraint(STATES, name="state"), UTF8)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    type: Mapped[str] = mapped_column(String(40))


class Export(Document, Base):
    __tablename__ = "exports"
    __table_args__ = (CheckConstraint(STATES, name="state"), UTF8)

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"), index=True)


class Import(Base):
    """A CSV of users. `chunks` is None until it was split; `good` and `bad` count rows when it has
    ended.
    """

    __tablename__ = "imports"
    __table_args__ = (CheckConstraint(STATES, name="state"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    disk: Mapped[str] = mapped_column(String(40))
    path: Mapped[str] = mapped_column(String(1000))
    state: Mapped[str] = mapped_column(String(10), default=State.PENDING)
    job_id: Mapped[str | None] = mapped_column(String(64))
    chunks: Mapped[int | None]
    good: Mapped[int | None]
    bad: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class ImportRow(Base):
    """What became of one row of an import: `error` is None for a good one. The first row below the
    heading is 1.
    """

    __tablename__ = "import_rows"
    __table_args__ = (UniqueConstraint("import_id", "number"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"))
    number: Mapped[int]
    email: Mapped[str | None] = mapped_column(String(254))
    error: Mapped[str | None] = mapped_column(String(1000))
