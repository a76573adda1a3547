"""The tables of the store. They change by the migrations of the engine, never here alone.

Instants are POSIX seconds as doubles, names are exact, lists and objects are JSON texts: so all four databases store
and compare them alike.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import LONGTEXT

metadata = MetaData()

#: The longest name, in characters.
LONGEST_NAME = 255

_Name = String(LONGEST_NAME).with_variant(String(LONGEST_NAME, collation="C"), "postgresql")
_Id = BigInteger().with_variant(Integer, "sqlite")
_LongText = Text().with_variant(LONGTEXT, "mysql", "mariadb")

failed = Table(
    "relevo_failed",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("uuid", _Name, nullable=False),
    # The failed job that this one is a retry of, 0 for none: a job that is delivered twice fails once.
    Column("origin", BigInteger, nullable=False, server_default="0"),
    Column("task", _Name),
    Column("connection", _Name, nullable=False),
    Column("queue", _Name, nullable=False),
    Column("payload", _LongText, nullable=False),
    Column("tags", _LongText, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("errors", _LongText, nullable=False),
    Column("exception", _Name, nullable=False),
    Column("message", _LongText, nullable=False),
    Column("batch", _Name),
    Column("failed_at", Double, nullable=False),
    # Who is putting it back just now, and when it was put back.
    Column("claim", String(64)),
    Column("claimed_at", Double),
    Column("retried_at", Double),
    UniqueConstraint("uuid", "origin", name="relevo_failed_once"),
    # Lists go by id, newest first, of all jobs or of one queue or task.
    Index("relevo_failed_by_queue", "queue", "id"),
    Index("relevo_failed_by_task", "task", "id"),
    Index("relevo_failed_by_age", "failed_at"),
    Index("relevo_failed_by_claim", "claim"),
    sqlite_autoincrement=True,
    implicit_returning=False,
)

tags = Table(
    "relevo_tags",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("tag", _Name, nullable=False),
    Column("uuid", _Name, nullable=False),
    Column("at", Double, nullable=False),
    Index("relevo_tags_by_tag", "tag", "uuid"),
    Index("relevo_tags_by_age", "at"),
    implicit_returning=False,
)
