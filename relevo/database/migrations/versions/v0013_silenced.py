"""Columns for the arguments of failed jobs, redacted, and for silenced jobs in history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0013"
down_revision = "0009"
branch_labels = None
depends_on = None

_LongText = sa.Text().with_variant(LONGTEXT, "mysql", "mariadb")


def upgrade() -> None:
    op.add_column("relevo_failed", sa.Column("arguments", _LongText))
    op.add_column(
        "relevo_history", sa.Column("silenced", sa.SmallInteger, nullable=False, server_default="0")
    )
    op.create_index("relevo_history_by_kind", "relevo_history", ["state", "silenced", "ended_at"])
    op.drop_index("relevo_history_by_state", "relevo_history")


def downgrade() -> None:
    op.create_index("relevo_history_by_state", "relevo_history", ["state", "ended_at"])
    op.drop_index("relevo_history_by_kind", "relevo_history")
    with op.batch_alter_table("relevo_history") as table:
        table.drop_column("silenced")
    with op.batch_alter_table("relevo_failed") as table:
        table.drop_column("arguments")
