"""Tables of jobs, pauses, and broadcasts with their mailboxes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_LongText = sa.Text().with_variant(LONGTEXT, "mysql", "mariadb")


def upgrade() -> None:
    exact = _exact(op.get_bind())
    op.create_table(
        "relevo_jobs",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("job_id", _Name, nullable=False, index=True),
        sa.Column("queue", _Name, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("payload", _LongText, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("rescues", sa.Integer, nullable=False, server_default="0"),
        sa.Column("unique_key", _Name, unique=True),
        sa.Column("available_at", sa.Double, nullable=False),
        sa.Column("reserved_until", sa.Double),
        sa.Column("reserved_by", sa.String(255)),
        sa.Column("token", sa.String(64)),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.CheckConstraint("state IN ('delayed', 'pending', 'reserved')", name="relevo_jobs_state"),
        sa.CheckConstraint(
            "(state = 'reserved') = (reserved_until IS NOT NULL AND token IS NOT NULL)",
            name="relevo_jobs_lease",
        ),
        sqlite_autoincrement=True,
        **exact,
    )
    op.create_index(
        "relevo_jobs_next", "relevo_jobs", ["queue", "state", "priority", "available_at", "id"]
    )
    for name, column, state in (
        ("due", "available_at", "delayed"),
        ("ended", "reserved_until", "reserved"),
    ):
        condition = sa.text(f"state = '{state}'")
        op.create_index(
            f"relevo_jobs_{name}",
            "relevo_jobs",
            ["state", column],
            sqlite_where=condition,
            postgresql_where=condition,
        )
    op.create_table(
        "relevo_pauses",
        sa.Column("queue", _Name, primary_key=True),
        sa.Column("until", sa.Double),
        **exact,
    )
    op.create_table(
        "relevo_mailboxes",
        sa.Column("mailbox", _Name, primary_key=True),
        sa.Column("seen", _Id, nullable=False),
        sa.Column("ttl", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        **exact,
    )
    op.create_table(
        "relevo_bindings",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("mailbox", _Name, nullable=False, index=True),
        sa.Column("exchange", _Name, nullable=False, index=True),
        sa.Column("pattern", sa.Text, nullable=False),
        sa.Column("since", _Id, nullable=False),
        **exact,
    )
    op.create_table(
        "relevo_broadcasts",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("exchange", _Name, nullable=False),
        sa.Column("routing_key", _Name, nullable=False),
        sa.Column("payload", _LongText, nullable=False),
        sqlite_autoincrement=True,
        **exact,
    )


def downgrade() -> None:
    for table in (
        "relevo_broadcasts",
        "relevo_bindings",
        "relevo_mailboxes",
        "relevo_pauses",
        "relevo_jobs",
    ):
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
