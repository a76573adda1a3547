"""Users, files, and the versions of files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.models.base import UTF8, Moment

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        **UTF8,
    )
    _create_files()
    _create_versions()


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("disk", sa.String(40), nullable=False),
        sa.Column("path", sa.String(1000), nullable=False),
        sa.Column("original_name", sa.String(255), nullable=False),
        sa.Column("mime", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("processed_at", Moment, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_files_user_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "processed_at IS NULL OR error IS NULL", name=op.f("ck_files_one_ending")
        ),
        sa.CheckConstraint("size >= 0", name=op.f("ck_files_size")),
        **UTF8,
    )
    op.create_index("ix_files_user_id", "files", ["user_id"])


def _create_versions() -> None:
    op.create_table(
        "file_versions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("file_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("path", sa.String(1000), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_file_versions"),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"], name="fk_file_versions_file_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("file_id", "name", name="uq_file_versions_file_id"),
        sa.CheckConstraint(
            "width > 0 AND height > 0 AND bytes > 0", name=op.f("ck_file_versions_not_empty")
        ),
        **UTF8,
    )


def downgrade() -> None:
    for table in ("file_versions", "files", "users"):
        op.drop_table(table)
