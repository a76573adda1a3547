"""The base class of the models, the names of their constraints, and their type for datetimes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import DateTime, Dialect, MetaData
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from relevo import clock

# One naming of constraints for all databases, so that a migration can name a constraint.
NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

# File names contain emoji, and MariaDB's default before version 11 can't store them.
UTF8 = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}


class Moment(TypeDecorator[datetime]):
    """An aware datetime in UTC, to the microsecond. Without this type SQLite and MySQL drop the
    zone, and MySQL the fraction of the second.

    The methods have SQLAlchemy's signatures, so `dialect` is there unused.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value and clock.utc(clock.instant(value))

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return value and (
            value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        )


class Base(DeclarativeBase):
    """The application's tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: Moment()}


def now() -> datetime:
    return clock.utc(clock.now())
