"""The tables of what runs by the clock: more of `tables.py`, and under the same rules."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Double, Index, String, Table, UniqueConstraint

from relevo.database.columns import Id, Name
from relevo.store.tables import metadata

#: The longest text of a tick.
LONGEST_TICK = 64

# An entry of beat_schedule. Every tick up to `since` has had its turn; `schedule` is what it was then, as text.
# `gone_at`: the beat that started last doesn't have it.
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

# One run: of a tick (its instant as text), or by hand (then `tick` is the job's id, and `run_by` says who).
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
    CheckConstraint("state IN ('completed', 'failed', 'cancelled')", name="relevo_schedule_runs_state"),
    Index("relevo_schedule_runs_by_entry", "entry", "id"),
    Index("relevo_schedule_runs_by_job", "job_id"),
    Index("relevo_schedule_runs_by_age", "at"),
    sqlite_autoincrement=True,
    implicit_returning=False,
)
