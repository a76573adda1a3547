"""The tables of batches, of the outbox and of receipts: more of `tables.py`, and under the same rules."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Double, Index, Integer, SmallInteger, String, Table

from relevo.database.columns import Id, LongText, Name
from relevo.store.tables import metadata

# A batch, a chain or a chord: how many members, and how many of them have ended how. `streams`: how many are still
# putting members in; `told`: the percentage that was last told of; the `_at` of a callback: it was handed in then.
batches = Table(
    "relevo_batches",
    metadata,
    Column("id", Name, primary_key=True),
    Column("kind", String(5), nullable=False),
    Column("name", Name, nullable=False),
    Column("connection", Name, nullable=False),
    Column("queue", Name),
    Column("allow_failures", SmallInteger, nullable=False),
    Column("callbacks", LongText, nullable=False),
    Column("streams", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("told", SmallInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("cancelled_at", Double),
    Column("failed_at", Double),
    Column("completed_at", Double),
    Column("finished_at", Double),
    CheckConstraint("kind IN ('batch', 'chain', 'chord')", name="relevo_batches_kind"),
    Index("relevo_batches_by_age", "created_at"),
    Index("relevo_batches_by_end", "finished_at"),
)

# How each member has ended, once: that is what makes the counts exact.
members = Table(
    "relevo_members",
    metadata,
    Column("batch", Name, primary_key=True),
    Column("member", Integer, primary_key=True, autoincrement=False),
    Column("state", String(9), nullable=False),
    Column("uuid", Name, nullable=False),
    Column("ended_at", Double, nullable=False),
    CheckConstraint("state IN ('completed', 'failed', 'cancelled')", name="relevo_members_state"),
    Index("relevo_members_by_uuid", "batch", "uuid"),
    Index("relevo_members_by_job", "uuid"),
)

# Jobs that are to be put into a broker which is not this database.
outbox = Table(
    "relevo_outbox",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("uuid", Name, nullable=False),
    Column("connection", Name, nullable=False),
    Column("queue", Name, nullable=False),
    Column("payload", LongText, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("available_at", Double),
    Column("unique_key", Name),
    Column("created_at", Double, nullable=False),
    Index("relevo_outbox_next", "connection", "id"),
    Index("relevo_outbox_by_uuid", "uuid"),
    sqlite_autoincrement=True,
    implicit_returning=False,
)

# What has been done once and must not be done again.
receipts = Table(
    "relevo_receipts",
    metadata,
    Column("name", Name, primary_key=True),
    Column("at", Double, nullable=False),
    Index("relevo_receipts_by_age", "at"),
)
