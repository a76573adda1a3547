"""The tables of limits. Every change needs a migration in `relevo/database`.

A permit is held while the job `job_key` has the lease `token`: only that row of `relevo_jobs`
decides.
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
    column,
    table,
)

from relevo.database.types import LongText, Name

metadata = MetaData()


# One row for each key in use; it is locked before anything of the key changes.
limits = Table(
    "relevo_limits",
    metadata,
    Column("limit_key", Name, primary_key=True),
    Column("at_most", Integer, nullable=False, server_default="0"),
    # JSON: the state of the rate or the breaker (limits/rates.py, limits/breakers.py).
    Column("state", LongText),
    # The row is deleted after this instant, unless a job holds a permit or waits.
    Column("keep_until", Double, nullable=False),
    Index("relevo_limits_by_age", "keep_until"),
    implicit_returning=False,
)

permits = Table(
    "relevo_permits",
    metadata,
    Column("limit_key", Name, primary_key=True),
    Column("token", String(64), primary_key=True),
    Column("job_key", BigInteger, nullable=False),
    Column("job_id", Name, nullable=False),
    Column("task", Name, nullable=False),
    Column("since", Double, nullable=False),
    implicit_returning=False,
)

waiters = Table(
    "relevo_waiting",
    metadata,
    Column("limit_key", Name, primary_key=True),
    Column("job_id", Name, primary_key=True),
    Column("since", Double, nullable=False),
    Column("due", Double, nullable=False),
    Index("relevo_waiting_by_due", "limit_key", "due"),
    Index("relevo_waiting_by_since", "limit_key", "since"),
    implicit_returning=False,
)

rates = Table(
    "relevo_rates",
    metadata,
    Column("name", Name, primary_key=True),
    # JSON: the fields of a `Rate`.
    Column("rate", String(255), nullable=False),
    implicit_returning=False,
)

# The columns of the driver's table that decide whether a permit is held.
jobs = table(
    "relevo_jobs",
    column("id", BigInteger),
    column("token", String),
    column("reserved_until", Double),
)
