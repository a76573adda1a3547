"""The user of each batch of files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.models.base import UTF8, Moment

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "file_batches",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_file_batches_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_file_batches"),
        **UTF8,
    )
    op.create_index("ix_file_batches_user_id", "file_batches", ["user_id"])


def downgrade() -> None:
    op.drop_table("file_batches")
