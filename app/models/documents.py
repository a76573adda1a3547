"""Documents: reports and exports, made in the background for a user; and imports, which users
upload.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import UTF8, Base, now


class State(StrEnum):
    """The state of a document or an import."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


STATES = "state IN ('pending', 'completed', 'failed', 'cancelled')"


class Document:
    """The columns of reports and exports. `disk` and `path` say where a completed file is."""

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
    """A CSV of users. `chunks` is None until the file is split. `good` and `bad` count its rows at
    the end.
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
    """The result of one row of an import; `error` is None for a good row. The first row below the
    heading has the number 1.
    """

    __tablename__ = "import_rows"
    __table_args__ = (UniqueConstraint("import_id", "number"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"))
    number: Mapped[int]
    email: Mapped[str | None] = mapped_column(String(254))
    error: Mapped[str | None] = mapped_column(String(1000))
