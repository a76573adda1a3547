"""Passwords, tokens, and the API's answers and counts of requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.models.base import UTF8, Moment

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("password", sa.String(255), nullable=True))
    op.add_column(
        "users", sa.Column("admin", sa.Boolean, server_default=sa.false(), nullable=False)
    )
    _create_tokens()
    _create_answers()
    _create_request_counts()


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("abilities", sa.JSON, nullable=False),
        sa.Column("expires_at", Moment, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_tokens_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("hash", name="uq_tokens_hash"),
        **UTF8,
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])


def _create_answers() -> None:
    op.create_table(
        "answers",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=True),
        sa.Column("body", sa.Text, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_answers_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_answers"),
        sa.UniqueConstraint("user_id", "key", name="uq_answers_user_id"),
        **UTF8,
    )
    op.create_index("ix_answers_created_at", "answers", ["created_at"])


def _create_request_counts() -> None:
    op.create_table(
        "request_counts",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("subject", sa.String(80), nullable=False),
        sa.Column("minute", sa.Integer, nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.CheckConstraint("requests > 0", name=op.f("ck_request_counts_requests")),
        sa.PrimaryKeyConstraint("id", name="pk_request_counts"),
        sa.UniqueConstraint("subject", "minute", name="uq_request_counts_subject"),
        **UTF8,
    )
    op.create_index("ix_request_counts_minute", "request_counts", ["minute"])


def downgrade() -> None:
    for table in (
        "request_counts",
        "answers",
        "tokens",
    ):
        op.drop_table(table)
    op.drop_column("users", "admin")
    op.drop_column("users", "password")
