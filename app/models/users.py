"""Users and their API tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import UTF8, Base, now


class User(Base):
    """`password` is an Argon2 hash. A user without one can't log in, but may have tokens."""

    __tablename__ = "users"
    __table_args__ = (UTF8,)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    email: Mapped[str] = mapped_column(String(254), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    password: Mapped[str | None] = mapped_column(String(255))
    admin: Mapped[bool] = mapped_column(default=False, server_default=false())


class Token(Base):
    """`hash` is the SHA-256 of the token. `abilities` lists what it may do; `*` is everything."""

    __tablename__ = "tokens"
    __table_args__ = (UTF8,)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    abilities: Mapped[list[str]] = mapped_column(JSON)
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=now)
