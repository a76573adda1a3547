"""The tables of the database driver. They change by the migrations beside the engine, never here alone.

`relevo_jobs` holds only jobs that are still to be done; what happened is the store's. Instants are POSIX seconds as
doubles: all four databases store and compare them alike, which none of their timestamp types can say.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.mysql import LONGTEXT

metadata = MetaData()

# MySQL compares text without case unless told otherwise; queues, keys and tokens are exact.
_EXACT: dict[str, Any] = {"mysql_collate": "utf8mb4_bin", "mysql_charset": "utf8mb4", "mysql_engine": "InnoDB",
          "mariadb_collate": "utf8mb4_bin", "mariadb_charset": "utf8mb4", "mariadb_engine": "InnoDB"}
_Id = BigInteger().with_variant(Integer, "sqlite")
_LongText = Text().with_variant(LONGTEXT, "mysql", "mariadb")
NAME = 255


def _where(state: str) -> dict[str, Any]:
    condition = text(f"state = '{state}'")
    return {"sqlite_where": condition, "postgresql_where": condition}


jobs = Table(
    "relevo_jobs",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("job_id", String(NAME), nullable=False, index=True),
    Column("queue", String(NAME), nullable=False),
    Column("state", String(8), nullable=False),
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    Column("payload", _LongText, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("rescues", Integer, nullable=False, server_default="0"),
    Column("unique_key", String(NAME), unique=True),
    Column("available_at", Double, nullable=False),
    Column("reserved_until", Double),
    Column("reserved_by", String(NAME)),
    Column("token", String(64)),
    Column("created_at", Double, nullable=False),
    CheckConstraint("state IN ('delayed', 'pending', 'reserved')", name="relevo_jobs_state"),
    CheckConstraint(
        "(state = 'reserved') = (reserved_until IS NOT NULL AND token IS NOT NULL)", name="relevo_jobs_lease"
    ),
    # claim.sql walks this one in order; sizes count on it.
    Index("relevo_jobs_next", "queue", "state", "priority", "available_at", "id"),
    # due.sql and rescue.sql take the first of these; partial where the database can, so that they stay small.
    Index("relevo_jobs_due", "state", "available_at", **_where("delayed")),
    Index("relevo_jobs_ended", "state", "reserved_until", **_where("reserved")),
    sqlite_autoincrement=True,
    **_EXACT,
)

pauses = Table(
    "relevo_pauses",
    metadata,
    Column("queue", String(NAME), primary_key=True),
    Column("until", Double),
    **_EXACT,
)

mailboxes = Table(
    "relevo_mailboxes",
    metadata,
    Column("mailbox", String(NAME), primary_key=True),
    Column("exchange", String(NAME), primary_key=True),
    Column("pattern", String(NAME), primary_key=True, server_default=""),
    Column("seen", _Id, nullable=False),
    Column("expires_at", Double, nullable=False),
    **_EXACT,
)

broadcasts = Table(
    "relevo_broadcasts",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("exchange", String(NAME), nullable=False),
    Column("routing_key", String(NAME), nullable=False),
    Column("payload", _LongText, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
    sqlite_autoincrement=True,
    **_EXACT,
)
