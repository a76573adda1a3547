"""Tables of failed jobs, and of the tags by which jobs are found."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_LongText = sa.Text().with_variant(LONGTEXT, "mysql", "mariadb")


def upgrade() -> None:
    exact = _exact(op.get_bind())
    op.create_table(
        "relevo_failed",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("uuid", _Name, nullable=False),
        sa.Column("origin", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("task", _Name),
        sa.Column("connection", _Name, nullable=False),
        sa.Column("queue", _Name, nullable=False),
        sa.Column("payload", _LongText, nullable=False),
        sa.Column("tags", _LongText, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("errors", _LongText, nullable=False),
        sa.Column("exception", _Name, nullable=False),
        sa.Column("message", _LongText, nullable=False),
        sa.Column("batch", _Name),
        sa.Column("failed_at", sa.Double, nullable=False),
        sa.Column("claim", sa.String(64)),
        sa.Column("claimed_at", sa.Double),
        sa.Column("retried_at", sa.Double),
        sa.UniqueConstraint("uuid", "origin", name="relevo_failed_once"),
        sqlite_autoincrement=True,
        **exact,
    )
    op.create_index("relevo_failed_by_queue", "relevo_failed", ["queue", "id"])
    op.create_index("relevo_failed_by_task", "relevo_failed", ["task", "id"])
    op.create_index("relevo_failed_by_age", "relevo_failed", ["failed_at"])
    op.create_index("relevo_failed_by_claim", "relevo_failed", ["claim"])
    op.create_table(
        "relevo_tags",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("tag", _Name, nullable=False),
        sa.Column("uuid", _Name, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        **exact,
    )
    op.create_index("relevo_tags_by_tag", "relevo_tags", ["tag", "uuid"])
    op.create_index("relevo_tags_by_age", "relevo_tags", ["at"])


def downgrade() -> None:
    for table in ("relevo_tags", "relevo_failed"):
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
