"""A user's file on a disk, and the versions made of it.

The last processing of a file sets `processed_at` or `error`. Both are empty before the first one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import UTF8, Base, now


class File(Base):
    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint("processed_at IS NULL OR error IS NULL", name="one_ending"),
        CheckConstraint("size >= 0", name="size"),
        UTF8,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    disk: Mapped[str] = mapped_column(String(40))
    path: Mapped[str] = mapped_column(String(1000))
    original_name: Mapped[str] = mapped_column(String(255))
    mime: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    processed_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)

    versions: Mapped[list[FileVersion]] = relationship(
        back_populates="file",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by=lambda: FileVersion.name,
    )


class FileBatch(Base):
    """The user of a batch of files. Its state comes from `app.batches.find(id)`."""

    __tablename__ = "file_batches"
    __table_args__ = (UTF8,)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class FileVersion(Base):
    """One size of a picture. `options` has the requested edge, the kind of file and the quality."""

    __tablename__ = "file_versions"
    __table_args__ = (
        UniqueConstraint("file_id", "name"),
        CheckConstraint("width > 0 AND height > 0 AND bytes > 0", name="not_empty"),
        UTF8,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("files.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(40))
    path: Mapped[str] = mapped_column(String(1000))
    width: Mapped[int]
    height: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=now)

    file: Mapped[File] = relationship(back_populates="versions")
