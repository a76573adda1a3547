"""Until when a process is sending a row of the outbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("relevo_outbox", sa.Column("claimed_until", sa.Double()))


def downgrade() -> None:
    op.drop_column("relevo_outbox", "claimed_until")
