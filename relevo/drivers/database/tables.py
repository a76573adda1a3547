"""The tables of the database driver. Every change needs a migration in `relevo/database`.

`relevo_jobs` holds only jobs that are still to be done; the store records what happened to the
others. Instants are POSIX seconds as doubles: all four databases store and compare doubles alike,
which is true of none of their timestamp types.
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

from relevo.database.types import Id, LongText, Name

metadata = MetaData()


def _where(state: str) -> dict[str, Any]:
    condition = text(f"state = '{state}'")
    return {"sqlite_where": condition, "postgresql_where": condition}


jobs = Table(
    "relevo_jobs",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("job_id", Name, nullable=False, index=True),
    Column("queue", Name, nullable=False),
    Column("state", String(8), nullable=False),
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    Column("payload", LongText, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("rescues", Integer, nullable=False, server_default="0"),
    Column("unique_key", Name, unique=True),
    Column("available_at", Double, nullable=False),
    Column("reserved_until", Double),
    Column("reserved_by", Name),
    Column("token", String(64)),
    Column("created_at", Double, nullable=False),
    # For a job that takes turns (fair_queue.py): its key, and since when it could have run. Its
    # available_at is then its turn.
    Column("fair_key", Name),
    Column("fair_since", Double),
    CheckConstraint("state IN ('delayed', 'pending', 'reserved')", name="relevo_jobs_state"),
    CheckConstraint(
        "(state = 'reserved') = (reserved_until IS NOT NULL AND token IS NOT NULL)",
        name="relevo_jobs_lease",
    ),
    # The claims walk this index in order; sizes are counted on it.
    Index("relevo_jobs_next", "queue", "state", "priority", "available_at", "id"),
    # due_jobs.sql and ended_leases.sql read the first entries. Partial where the database can, to
    # stay small.
    Index("relevo_jobs_due", "state", "available_at", **_where("delayed")),
    Index("relevo_jobs_ended", "state", "reserved_until", **_where("reserved")),
    sqlite_autoincrement=True,
    implicit_returning=False,  # the new ids are not used
)

pauses = Table(
    "relevo_pauses",
    metadata,
    Column("queue", Name, primary_key=True),
    Column("until", Double),
)

turns = Table(
    "relevo_turns",
    metadata,
    Column("fair_key", Name, primary_key=True),
    Column("queue", Name, primary_key=True),
    Column("priority", SmallInteger, primary_key=True, autoincrement=False),
    Column("finish", Double, nullable=False),
    Index("relevo_turns_last", "queue", "priority", "finish"),
)

suspensions = Table(
    "relevo_suspensions",
    metadata,
    Column("what", Name, primary_key=True),
    Column("until", Double),
)

# A row counts only while its job is delayed to `until`; otherwise the job has moved on.
parked = Table(
    "relevo_parked",
    metadata,
    Column("job_key", BigInteger, primary_key=True, autoincrement=False),
    Column("what", Name, nullable=False, index=True),
    Column("until", Double, nullable=False),
)

mailboxes = Table(
    "relevo_mailboxes",
    metadata,
    Column("mailbox", Name, primary_key=True),
    Column("seen", Id, nullable=False),  # the broadcast up to which it has read
    Column("ttl", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
)

bindings = Table(
    "relevo_bindings",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("mailbox", Name, nullable=False, index=True),
    Column("exchange", Name, nullable=False, index=True),
    Column("pattern", Text, nullable=False),
    # The newest broadcast at the time of the binding: it gets only later ones.
    Column("since", Id, nullable=False),
    implicit_returning=False,
)

broadcasts = Table(
    "relevo_broadcasts",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("exchange", Name, nullable=False),
    Column("routing_key", Name, nullable=False),
    Column("payload", LongText, nullable=False),
    sqlite_autoincrement=True,
    implicit_returning=False,  # the new ids are not used
)
