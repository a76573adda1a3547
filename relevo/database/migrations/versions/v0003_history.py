"""Tables of history (how each job ended) and of metrics (counts per minute)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_LongText = sa.Text().with_variant(LONGTEXT, "mysql", "mariadb")


def upgrade() -> None:
    exact = _exact(op.get_bind())
    op.create_table(
        "relevo_history",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("uuid", _Name, nullable=False),
        sa.Column("task", _Name, nullable=False),
        sa.Column("connection", _Name, nullable=False),
        sa.Column("queue", _Name, nullable=False),
        sa.Column("state", sa.String(9), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("tags", _LongText, nullable=False),
        sa.Column("arguments", _LongText, nullable=False),
        sa.Column("message", _LongText, nullable=False),
        sa.Column("waited", sa.Double),
        sa.Column("ran", sa.Double),
        sa.Column("ended_at", sa.Double, nullable=False),
        sa.UniqueConstraint("uuid", name="relevo_history_uuid"),
        sa.CheckConstraint(
            "state IN ('completed', 'failed', 'cancelled')", name="relevo_history_state"
        ),
        **exact,
    )
    op.create_index("relevo_history_by_state", "relevo_history", ["state", "ended_at"])
    op.create_table(
        "relevo_metrics",
        sa.Column("minute", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(5), primary_key=True),
        sa.Column("name", _Name, primary_key=True),
        sa.Column("measure", sa.String(9), primary_key=True),
        sa.Column("bucket", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("jobs", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        **exact,
    )


def downgrade() -> None:
    for table in ("relevo_metrics", "relevo_history"):
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
