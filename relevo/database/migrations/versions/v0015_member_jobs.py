"""An index that finds the batch of an ended job."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("relevo_members_by_job", "relevo_members", ["uuid"])


def downgrade() -> None:
    op.drop_index("relevo_members_by_job", "relevo_members")
