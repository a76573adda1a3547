"""Events and their attendees."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import UTF8, Base, now


class Event(Base):
    """`statistics` and `error` are the result of the task events.process."""

    __tablename__ = "events"
    __table_args__ = (CheckConstraint("capacity > 0", name="capacity"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(255))
    starts_at: Mapped[datetime]
    capacity: Mapped[int]
    statistics: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    processed_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Attendee(Base):
    """An attendee gets a `ticket` when the event is processed. Beyond its capacity the state is
    `waiting`.
    """

    __tablename__ = "attendees"
    __table_args__ = (
        UniqueConstraint("event_id", "email"),
        UniqueConstraint("ticket"),
        CheckConstraint(
            "state IN ('registered', 'confirmed', 'waiting', 'cancelled')", name="state"
        ),
        UTF8,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    email: Mapped[str] = mapped_column(String(254))
    state: Mapped[str] = mapped_column(String(10), default="registered")
    ticket: Mapped[str | None] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(default=now)
