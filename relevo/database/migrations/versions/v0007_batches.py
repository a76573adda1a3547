"""Tables of batches and their members, of the outbox, and of receipts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_LongText = sa.Text().with_variant(LONGTEXT, "mysql", "mariadb")


def upgrade() -> None:
    exact = _exact(op.get_bind())
    op.create_table(
        "relevo_batches",
        sa.Column("id", _Name, primary_key=True),
        sa.Column("kind", sa.String(5), nullable=False),
        sa.Column("name", _Name, nullable=False),
        sa.Column("connection", _Name, nullable=False),
        sa.Column("queue", _Name),
        sa.Column("allow_failures", sa.SmallInteger, nullable=False),
        sa.Column("callbacks", _LongText, nullable=False),
        sa.Column("streams", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("completed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("cancelled", sa.Integer, nullable=False),
        sa.Column("told", sa.SmallInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("cancelled_at", sa.Double),
        sa.Column("failed_at", sa.Double),
        sa.Column("completed_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.CheckConstraint("kind IN ('batch', 'chain', 'chord')", name="relevo_batches_kind"),
        **exact,
    )
    op.create_table(
        "relevo_members",
        sa.Column("batch", _Name, primary_key=True),
        sa.Column("member", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(9), nullable=False),
        sa.Column("uuid", _Name, nullable=False),
        sa.Column("ended_at", sa.Double, nullable=False),
        sa.CheckConstraint(
            "state IN ('completed', 'failed', 'cancelled')", name="relevo_members_state"
        ),
        **exact,
    )
    op.create_table(
        "relevo_outbox",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("uuid", _Name, nullable=False),
        sa.Column("connection", _Name, nullable=False),
        sa.Column("queue", _Name, nullable=False),
        sa.Column("payload", _LongText, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("available_at", sa.Double),
        sa.Column("unique_key", _Name),
        sa.Column("created_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
        **exact,
    )
    op.create_table(
        "relevo_receipts",
        sa.Column("name", _Name, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        **exact,
    )
    op.create_index("relevo_batches_by_age", "relevo_batches", ["created_at"])
    op.create_index("relevo_batches_by_end", "relevo_batches", ["finished_at"])
    op.create_index("relevo_outbox_next", "relevo_outbox", ["connection", "id"])
    op.create_index("relevo_outbox_by_uuid", "relevo_outbox", ["uuid"])
    op.create_index("relevo_receipts_by_age", "relevo_receipts", ["at"])
    op.create_index("relevo_failed_by_batch", "relevo_failed", ["batch"])


def downgrade() -> None:
    op.drop_index("relevo_failed_by_batch", "relevo_failed")
    for table in ("relevo_receipts", "relevo_outbox", "relevo_members", "relevo_batches"):
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
