"""Tables of fair queues: the fair key of a job, and the last turn of each key."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("relevo_jobs", sa.Column("fair_key", _Name))
    op.add_column("relevo_jobs", sa.Column("fair_since", sa.Double))
    op.create_table(
        "relevo_turns",
        sa.Column("fair_key", _Name, primary_key=True),
        sa.Column("queue", _Name, primary_key=True),
        sa.Column("priority", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("finish", sa.Double, nullable=False),
        **_exact(op.get_bind()),
    )
    op.create_index("relevo_turns_last", "relevo_turns", ["queue", "priority", "finish"])


def downgrade() -> None:
    op.drop_table("relevo_turns")
    with op.batch_alter_table("relevo_jobs") as jobs:
        jobs.drop_column("fair_since")
        jobs.drop_column("fair_key")


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
