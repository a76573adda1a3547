"""What the API stores of requests: answers for repeated requests, and counts for the rate limit."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import UTF8, Base, now


class Answer(Base):
    """The answer to a POST with an Idempotency-Key. `status` is None while the first request runs.

    `fingerprint` is a hash of the request: the same key with another request is an error.
    """

    __tablename__ = "answers"
    __table_args__ = (UniqueConstraint("user_id", "key"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    body: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now, index=True)


class RequestCount(Base):
    """The requests of a subject (a token or an address) in a minute, numbered from the epoch."""

    __tablename__ = "request_counts"
    __table_args__ = (
        UniqueConstraint("subject", "minute"),
        CheckConstraint("requests > 0", name="requests"),
        UTF8,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(String(80))
    minute: Mapped[int] = mapped_column(index=True)
    requests: Mapped[int]
