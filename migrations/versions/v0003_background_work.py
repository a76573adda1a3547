"""Reports, events, exports, imports, cases, mails and webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.models.base import UTF8, Moment

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_reports()
    _create_events()
    _create_attendees()
    _create_exports()
    _create_imports()
    _create_import_rows()
    _create_cases()
    _create_mails()
    _create_webhooks()
    _create_deliveries()


def _create_reports() -> None:
    op.create_table(
        "reports",
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("format", sa.String(10), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=True),
        sa.Column("disk", sa.String(40), nullable=True),
        sa.Column("path", sa.String(1000), nullable=True),
        sa.Column("size", sa.BigInteger, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("expires_at", Moment, nullable=True),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_reports_state"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_reports_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
        **UTF8,
    )
    op.create_index("ix_reports_expires_at", "reports", ["expires_at"])
    op.create_index("ix_reports_user_id", "reports", ["user_id"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("starts_at", Moment, nullable=False),
        sa.Column("capacity", sa.Integer, nullable=False),
        sa.Column("statistics", sa.JSON, nullable=True),
        sa.Column("processed_at", Moment, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.CheckConstraint("capacity > 0", name=op.f("ck_events_capacity")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_events_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        **UTF8,
    )
    op.create_index("ix_events_user_id", "events", ["user_id"])


def _create_attendees() -> None:
    op.create_table(
        "attendees",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("event_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("ticket", sa.String(40), nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.CheckConstraint(
            "state IN ('registered', 'confirmed', 'waiting', 'cancelled')",
            name=op.f("ck_attendees_state"),
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name="fk_attendees_event_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_attendees"),
        sa.UniqueConstraint("event_id", "email", name="uq_attendees_event_id"),
        sa.UniqueConstraint("ticket", name="uq_attendees_ticket"),
        **UTF8,
    )


def _create_exports() -> None:
    op.create_table(
        "exports",
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("event_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("format", sa.String(10), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=True),
        sa.Column("disk", sa.String(40), nullable=True),
        sa.Column("path", sa.String(1000), nullable=True),
        sa.Column("size", sa.BigInteger, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("expires_at", Moment, nullable=True),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_exports_state"),
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["events.id"], name="fk_exports_event_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_exports_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_exports"),
        **UTF8,
    )
    op.create_index("ix_exports_event_id", "exports", ["event_id"])
    op.create_index("ix_exports_expires_at", "exports", ["expires_at"])
    op.create_index("ix_exports_user_id", "exports", ["user_id"])


def _create_imports() -> None:
    op.create_table(
        "imports",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("disk", sa.String(40), nullable=False),
        sa.Column("path", sa.String(1000), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=True),
        sa.Column("chunks", sa.Integer, nullable=True),
        sa.Column("good", sa.Integer, nullable=True),
        sa.Column("bad", sa.Integer, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_imports_state"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_imports_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_imports"),
        **UTF8,
    )
    op.create_index("ix_imports_user_id", "imports", ["user_id"])


def _create_import_rows() -> None:
    op.create_table(
        "import_rows",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("import_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("email", sa.String(254), nullable=True),
        sa.Column("error", sa.String(1000), nullable=True),
        sa.ForeignKeyConstraint(
            ["import_id"], ["imports.id"], name="fk_import_rows_import_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_import_rows"),
        sa.UniqueConstraint("import_id", "number", name="uq_import_rows_import_id"),
        **UTF8,
    )


def _create_cases() -> None:
    op.create_table(
        "cases",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("number", sa.String(64), nullable=False),
        sa.Column("data", sa.JSON, nullable=True),
        sa.Column("fetched_at", Moment, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_cases_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_cases"),
        sa.UniqueConstraint("user_id", "number", name="uq_cases_user_id"),
        **UTF8,
    )


def _create_mails() -> None:
    op.create_table(
        "mails",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=True),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("template", sa.String(40), nullable=False),
        sa.Column("address", sa.String(254), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("taken_at", Moment, nullable=True),
        sa.Column("sent_at", Moment, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.CheckConstraint("state IN ('pending', 'sent', 'failed')", name=op.f("ck_mails_state")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_mails_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_mails"),
        sa.UniqueConstraint("job_id", name="uq_mails_job_id"),
        **UTF8,
    )
    op.create_index("ix_mails_user_id", "mails", ["user_id", "taken_at"])


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("pending_key", sa.String(64), nullable=True),
        sa.Column("job_id", sa.String(64), nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'completed', 'failed')", name=op.f("ck_webhooks_state")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_webhooks_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        sa.UniqueConstraint("pending_key", name="uq_webhooks_pending_key"),
        **UTF8,
    )
    op.create_index("ix_webhooks_user_id", "webhooks", ["user_id"])


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("webhook_id", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("status", sa.Integer, nullable=True),
        sa.Column("answer", sa.Text, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name="fk_deliveries_webhook_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        **UTF8,
    )
    op.create_index("ix_deliveries_webhook_id", "deliveries", ["webhook_id"])


def downgrade() -> None:
    for table in (
        "deliveries",
        "webhooks",
        "mails",
        "cases",
        "import_rows",
        "imports",
        "exports",
        "attendees",
        "events",
        "reports",
    ):
        op.drop_table(table)
