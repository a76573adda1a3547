"""Jobs, pauses, mailboxes and broadcasts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_EXACT: dict[str, Any] = {"mysql_collate": "utf8mb4_bin", "mysql_charset": "utf8mb4", "mysql_engine": "InnoDB",
          "mariadb_collate": "utf8mb4_bin", "mariadb_charset": "utf8mb4", "mariadb_engine": "InnoDB"}  # fmt: skip
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_LongText = sa.Text().with_variant(LONGTEXT, "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "relevo_jobs",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("job_id", sa.String(255), nullable=False, index=True),
        sa.Column("queue", sa.String(255), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("payload", _LongText, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("rescues", sa.Integer, nullable=False, server_default="0"),
        sa.Column("unique_key", sa.String(255), unique=True),
        sa.Column("available_at", sa.Double, nullable=False),
        sa.Column("reserved_until", sa.Double),
        sa.Column("reserved_by", sa.String(255)),
        sa.Column("token", sa.String(64)),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.CheckConstraint("state IN ('delayed', 'pending', 'reserved')", name="relevo_jobs_state"),
        sa.CheckConstraint(
            "(state = 'reserved') = (reserved_until IS NOT NULL AND token IS NOT NULL)", name="relevo_jobs_lease"
        ),
        sqlite_autoincrement=True,
        **_EXACT,
    )
    op.create_index("relevo_jobs_next", "relevo_jobs", ["queue", "state", "priority", "available_at", "id"])
    for name, column, state in (("due", "available_at", "delayed"), ("ended", "reserved_until", "reserved")):
        condition = sa.text(f"state = '{state}'")
        op.create_index(
            f"relevo_jobs_{name}", "relevo_jobs", ["state", column], sqlite_where=condition, postgresql_where=condition
        )
    op.create_table(
        "relevo_pauses",
        sa.Column("queue", sa.String(255), primary_key=True),
        sa.Column("until", sa.Double),
        **_EXACT,
    )
    op.create_table(
        "relevo_mailboxes",
        sa.Column("mailbox", sa.String(255), primary_key=True),
        sa.Column("exchange", sa.String(255), primary_key=True),
        sa.Column("pattern", sa.String(255), primary_key=True, server_default=""),
        sa.Column("seen", _Id, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        **_EXACT,
    )
    op.create_table(
        "relevo_broadcasts",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("exchange", sa.String(255), nullable=False),
        sa.Column("routing_key", sa.String(255), nullable=False),
        sa.Column("payload", _LongText, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False, index=True),
        sqlite_autoincrement=True,
        **_EXACT,
    )


def downgrade() -> None:
    for table in ("relevo_broadcasts", "relevo_mailboxes", "relevo_pauses", "relevo_jobs"):
        op.drop_table(table)
