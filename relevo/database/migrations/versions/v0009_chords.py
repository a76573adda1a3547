"""An index that finds the members of a chord by their jobs."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("relevo_members_by_uuid", "relevo_members", ["batch", "uuid"])


def downgrade() -> None:
    op.drop_index("relevo_members_by_uuid", "relevo_members")
