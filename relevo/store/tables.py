"""The tables of the store: jobs that ended, the dashboard's, the schedule's, and the batches'.

They change by a migration (relevo/database/migrations), never here alone. Instants are POSIX
seconds as doubles, names are exact, lists and objects are JSON texts. So all four databases store
and compare them alike.
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

#: The longest text of a tick.
LONGEST_TICK = 64

metadata = MetaData()


# --- jobs that have ended -------------------------------------------------------------------------
# Jobs that have failed for good.
failed = Table(
    "relevo_failed",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("uuid", Name, nullable=False),
    # The number of the failed job that this one is a retry of, or 0. So a job that is delivered
    # twice fails once.
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
    # The retry that has claimed the job, since when, and when the job was retried.
    Column("claim", String(64)),
    Column("claimed_at", Double),
    Column("retried_at", Double),
    # For people and for searches, redacted. None in rows that are older than this column.
    Column("arguments", LongText),
    UniqueConstraint("uuid", "origin", name="relevo_failed_once"),
    # Lists are ordered by id, newest first: of all jobs, or of one queue or task.
    Index("relevo_failed_by_queue", "queue", "id"),
    Index("relevo_failed_by_task", "task", "id"),
    Index("relevo_failed_by_age", "failed_at"),
    Index("relevo_failed_by_claim", "claim"),
    Index("relevo_failed_by_batch", "batch"),
    sqlite_autoincrement=True,
    implicit_returning=False,
)

# The tags of failed jobs and of jobs in history.
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

# How each job has ended.
history = Table(
    "relevo_history",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    # One row a job, of its last end: a job that is retried by hand ends several times.
    Column("uuid", Name, nullable=False),
    Column("task", Name, nullable=False),
    Column("connection", Name, nullable=False),
    Column("queue", Name, nullable=False),
    Column("state", String(9), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("tags", LongText, nullable=False),
    Column("arguments", LongText, nullable=False),
    Column("message", LongText, nullable=False),
    # Seconds, None where they are not known.
    Column("waited", Double),
    Column("ran", Double),
    Column("ended_at", Double, nullable=False),
    # 1: a completed job that is listed apart, because it is silenced.
    Column("silenced", SmallInteger, nullable=False, server_default="0"),
    UniqueConstraint("uuid", name="relevo_history_uuid"),
    CheckConstraint("state IN ('completed', 'failed', 'cancelled')", name="relevo_history_state"),
    # Lists read it newest first, retention oldest first.
    Index("relevo_history_by_kind", "state", "silenced", "ended_at"),
    implicit_returning=False,
)

# A row counts the jobs of one task or queue in one minute: those that ended in a state (bucket 0),
# or those that waited or ran for about so long. Workers add to each other's rows.
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


# --- the dashboard --------------------------------------------------------------------------------
# What people did on the dashboard.
audit = Table(
    "relevo_audit",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("who", Name, nullable=False),
    Column("action", Name, nullable=False),
    Column("target", LongText, nullable=False),
    # Empty while the action is done, and for ever if its process died then.
    Column("outcome", LongText, nullable=False),
    Index("relevo_audit_by_age", "at"),
    sqlite_autoincrement=True,
    implicit_returning=False,
)

# Tags that people watch.
watched = Table(
    "relevo_watched",
    metadata,
    Column("tag", Name, primary_key=True),
    Column("at", Double, nullable=False),
    implicit_returning=False,
)


# --- the schedule ---------------------------------------------------------------------------------
# An entry of beat_schedule. Every tick up to `since` is done. `schedule` is the schedule of then,
# as text. `gone_at`: since then the latest beat to start doesn't have the entry.
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

# A run of a tick (the tick's instant as text), or by hand (`tick` is then the job's id, and
# `run_by` names the person).
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
    # The end of the job, kept for longer than history keeps it.
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


# --- batches, outbox and receipts -----------------------------------------------------------------
# A batch, a chain or a chord: how many members it has, and how they have ended. `streams` counts
# the dispatches that still add members. `told` is the percentage of the last progress callback. An
# `_at` is the instant of an event: see `batch_counts.Tally`.
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

# How each member has ended, once: this makes the counts exact.
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

# Jobs for a broker that is not this database, and jobs with a unique key for one that is.
# `claimed_until`: until then a process is sending the row.
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
    Column("claimed_until", Double),
    Index("relevo_outbox_next", "connection", "id"),
    Index("relevo_outbox_by_uuid", "uuid"),
    sqlite_autoincrement=True,
    implicit_returning=False,
)

# Names of steps that are done and must not be done twice.

receipts = Table(
    "relevo_receipts",
    metadata,
    Column("name", Name, primary_key=True),
    Column("at", Double, nullable=False),
    Index("relevo_receipts_by_age", "at"),
)
