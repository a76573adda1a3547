"""Tables of limits: state, permits, waiting jobs, and rates changed at run time."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_LongText = sa.Text().with_variant(LONGTEXT, "mysql", "mariadb")


def upgrade() -> None:
    exact = _exact(op.get_bind())
    op.create_table(
        "relevo_limits",
        sa.Column("limit_key", _Name, primary_key=True),
        sa.Column("at_most", sa.Integer, nullable=False, server_default="0"),
        sa.Column("state", _LongText),
        sa.Column("keep_until", sa.Double, nullable=False),
        **exact,
    )
    op.create_index("relevo_limits_by_age", "relevo_limits", ["keep_until"])
    op.create_table(
        "relevo_permits",
        sa.Column("limit_key", _Name, primary_key=True),
        sa.Column("token", sa.String(64), primary_key=True),
        sa.Column("job_key", sa.BigInteger, nullable=False),
        sa.Column("job_id", _Name, nullable=False),
        sa.Column("task", _Name, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
        **exact,
    )
    op.create_table(
        "relevo_waiting",
        sa.Column("limit_key", _Name, primary_key=True),
        sa.Column("job_id", _Name, primary_key=True),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        **exact,
    )
    for column in ("due", "since"):
        op.create_index(f"relevo_waiting_by_{column}", "relevo_waiting", ["limit_key", column])
    op.create_table(
        "relevo_rates",
        sa.Column("name", _Name, primary_key=True),
        sa.Column("rate", sa.String(255), nullable=False),
        **exact,
    )


def downgrade() -> None:
    for table in ("relevo_rates", "relevo_waiting", "relevo_permits", "relevo_limits"):
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
