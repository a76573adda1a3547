"""The time at which a failed order was refunded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.models.base import Moment

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("refunded_at", Moment, nullable=True))


def downgrade() -> None:
    op.drop_column("orders", "refunded_at")
