"""Webhooks, and the log of their deliveries."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import UTF8, Base, now


class Webhook(Base):
    """A message for an url. `pending_key` is a hash of user, url and body until it has ended, so
    the same message is on its way once.
    """

    __tablename__ = "webhooks"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'completed', 'failed')", name="state"),
        UTF8,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    url: Mapped[str] = mapped_column(String(2000))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10), default="pending")
    pending_key: Mapped[str | None] = mapped_column(String(64), unique=True)
    job_id: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(Text)
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Delivery(Base):
    """One attempt to deliver a webhook: the answer's status and first bytes, or the error."""

    __tablename__ = "deliveries"
    __table_args__ = (UTF8,)

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), index=True
    )
    attempt: Mapped[int]
    status: Mapped[int | None]
    answer: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float]
    created_at: Mapped[datetime] = mapped_column(default=now)
