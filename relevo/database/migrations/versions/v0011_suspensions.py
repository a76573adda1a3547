"""Tables of suspensions (pauses of a task or a tag) and of the jobs parked by them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"
branch_labels = None
depends_on = None

_Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")


def upgrade() -> None:
    exact = _exact(op.get_bind())
    op.create_table(
        "relevo_suspensions",
        sa.Column("what", _Name, primary_key=True),
        sa.Column("until", sa.Double),
        **exact,
    )
    op.create_table(
        "relevo_parked",
        sa.Column("job_key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("what", _Name, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
        **exact,
    )
    op.create_index("ix_relevo_parked_what", "relevo_parked", ["what"])


def downgrade() -> None:
    for table in ("relevo_parked", "relevo_suspensions"):
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
