"""Tables of the schedule: the state of each entry, and its runs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    exact = _exact(op.get_bind())
    op.create_table(
        "relevo_schedules",
        sa.Column("entry", _Name, primary_key=True),
        sa.Column("schedule", _Name, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("paused_at", sa.Double),
        sa.Column("paused_until", sa.Double),
        sa.Column("gone_at", sa.Double),
        **exact,
    )
    op.create_table(
        "relevo_schedule_runs",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("entry", _Name, nullable=False),
        sa.Column("tick", sa.String(64), nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("job_id", _Name, nullable=False),
        sa.Column("run_by", _Name),
        sa.Column("state", sa.String(9)),
        sa.Column("ended_at", sa.Double),
        sa.UniqueConstraint("entry", "tick", name="relevo_schedule_runs_once"),
        sa.CheckConstraint(
            "state IN ('completed', 'failed', 'cancelled')", name="relevo_schedule_runs_state"
        ),
        sqlite_autoincrement=True,
        **exact,
    )
    for name, columns in (("entry", ["entry", "id"]), ("job", ["job_id"]), ("age", ["at"])):
        op.create_index(f"relevo_schedule_runs_by_{name}", "relevo_schedule_runs", columns)


def downgrade() -> None:
    for table in ("relevo_schedule_runs", "relevo_schedules"):
        op.drop_table(table)


def _exact(connection: sa.Connection) -> dict[str, Any]:
    # Names are compared byte by byte. PAD SPACE would take "a" and "a " for one name.
    collation = (
        "utf8mb4_nopad_bin"
        if getattr(connection.dialect, "is_mariadb", False)
        else "utf8mb4_0900_bin"
    )
    options = {"charset": "utf8mb4", "collate": collation, "engine": "InnoDB"}
    return {
        f"{kind}_{name}": value for kind in ("mysql", "mariadb") for name, value in options.items()
    }
