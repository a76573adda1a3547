"""The tables of the store. They change by the migrations of the engine, never here alone.

Instants are POSIX seconds as doubles, names are exact, lists and objects are JSON texts: so all
four databases store and compare them alike.
"""

from __future__ import annotations

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
    UniqueConstraint,
)

from relevo.database.types import Id, LongText, Name

metadata = MetaData()


failed = Table(
    "relevo_failed",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("uuid", Name, nullable=False),
    # The failed job that this one is a retry of, 0 for none: a job that is delivered twice fails
    # once.
    Column("origin", BigInteger, nullable=False, server_default="0"),
    Column("task", Name),
    Column("connection", Name, nullable=False),
    Column("queue", Name, nullable=False),
    Column("payload", LongText, nullable=False),
    Column("tags", LongText, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("errors", LongText, nullable=False),
    Column("exception", Name, nullable=False),
    Column("message", LongText, nullable=False),
    Column("batch", Name),
    Column("failed_at", Double, nullable=False),
    # Who is putting it back just now, and when it was put back.
    Column("claim", String(64)),
    Column("claimed_at", Double),
    Column("retried_at", Double),
    # For people, and for searches: without what nobody may see. None in rows of before.
    Column("arguments", LongText),
    UniqueConstraint("uuid", "origin", name="relevo_failed_once"),
    # Lists go by id, newest first, of all jobs or of one queue or task.
    Index("relevo_failed_by_queue", "queue", "id"),
    Index("relevo_failed_by_task", "task", "id"),
    Index("relevo_failed_by_age", "failed_at"),
    Index("relevo_failed_by_claim", "claim"),
    Index("relevo_failed_by_batch", "batch"),
    sqlite_autoincrement=True,
    implicit_returning=False,
)

tags = Table(
    "relevo_tags",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("tag", Name, nullable=False),
    Column("uuid", Name, nullable=False),
    Column("at", Double, nullable=False),
    Index("relevo_tags_by_tag", "tag", "uuid"),
    Index("relevo_tags_by_age", "at"),
    implicit_returning=False,
)

history = Table(
    "relevo_history",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # One row a job, of its last end: one that is put back by hand may have several.
    Column("uuid", Name, nullable=False),
    Column("task", Name, nullable=False),
    Column("connection", Name, nullable=False),
    Column("queue", Name, nullable=False),
    Column("state", String(9), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("tags", LongText, nullable=False),
    Column("arguments", LongText, nullable=False),
    Column("message", LongText, nullable=False),
    # Seconds, None where nobody knows.
    Column("waited", Double),
    Column("ran", Double),
    Column("ended_at", Double, nullable=False),
    # 1: a completed job that is listed apart.
    Column("silenced", SmallInteger, nullable=False, server_default="0"),
    UniqueConstraint("uuid", name="relevo_history_uuid"),
    CheckConstraint("state IN ('completed', 'failed', 'cancelled')", name="relevo_history_state"),
    # Lists go by it, newest first, and retention, oldest first.
    Index("relevo_history_by_kind", "state", "silenced", "ended_at"),
    implicit_returning=False,
)

# A row counts the jobs of one task or queue in one minute: those of a state (bucket 0), or those
# that waited or ran for about so long. Workers add to each other's rows.
metrics = Table(
    "relevo_metrics",
    metadata,
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(5), primary_key=True),
    Column("name", Name, primary_key=True),
    Column("measure", String(9), primary_key=True),
    Column("bucket", SmallInteger, primary_key=True, autoincrement=False),
    Column("jobs", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    implicit_returning=False,
)

# What people did on the dashboard.
audit = Table(
    "relevo_audit",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("who", Name, nullable=False),
    Column("action", Name, nullable=False),
    Column("target", LongText, nullable=False),
    # Empty while it is being done, and for ever if whoever did it died over it.
    Column("outcome", LongText, nullable=False),
    Index("relevo_audit_by_age", "at"),
    sqlite_autoincrement=True,
    implicit_returning=False,
)

# Tags that somebody wants to keep an eye on.
watched = Table(
    "relevo_watched",
    metadata,
    Column("tag", Name, primary_key=True),
    Column("at", Double, nullable=False),
    implicit_returning=False,
)


# ---- relevo.store.schedule_tables: The tables of what runs by the clock: more of `tables.py`, and under the same rules.
#: The longest text of a tick.
LONGEST_TICK = 64

# An entry of beat_schedule. Every tick up to `since` has had its turn; `schedule` is what it was
# then, as text. `gone_at`: the beat that started last doesn't have it.
schedules = Table(
    "relevo_schedules",
    metadata,
    Column("entry", Name, primary_key=True),
    Column("schedule", Name, nullable=False),
    Column("since", Double, nullable=False),
    Column("paused_at", Double),
    Column("paused_until", Double),
    Column("gone_at", Double),
)

# One run: of a tick (its instant as text), or by hand (then `tick` is the job's id, and `run_by`
# says who).
runs = Table(
    "relevo_schedule_runs",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("entry", Name, nullable=False),
    Column("tick", String(LONGEST_TICK), nullable=False),
    Column("due", Double, nullable=False),
    Column("at", Double, nullable=False),
    Column("job_id", Name, nullable=False),
    Column("run_by", Name),
    # How the job has ended, for longer than history keeps it.
    Column("state", String(9)),
    Column("ended_at", Double),
    UniqueConstraint("entry", "tick", name="relevo_schedule_runs_once"),
    CheckConstraint(
        "state IN ('completed', 'failed', 'cancelled')", name="relevo_schedule_runs_state"
    ),
    Index("relevo_schedule_runs_by_entry", "entry", "id"),
    Index("relevo_schedule_runs_by_job", "job_id"),
    Index("relevo_schedule_runs_by_age", "at"),
    sqlite_autoincrement=True,
    implicit_returning=False,
)


# ---- relevo.store.batch_tables: The tables of batches, of the outbox and of receipts: more of `tables.py`, and under the same rules.
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
