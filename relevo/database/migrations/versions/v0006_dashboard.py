"""Tables of the audit log and of watched tags."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0006"
down_revision = "0003"
branch_labels = None
depends_on = None

_Name = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_LongText = sa.Text().with_variant(LONGTEXT, "mysql", "mariadb")


def upgrade() -> None:
    exact = _exact(op.get_bind())
    op.create_table(
        "relevo_audit",
        sa.Column("id", _Id, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("who", _Name, nullable=False),
        sa.Column("action", _Name, nullable=False),
        sa.Column("target", _LongText, nullable=False),
        sa.Column("outcome", _LongText, nullable=False),
        sqlite_autoincrement=True,
        **exact,
    )
    op.create_index("relevo_audit_by_age", "relevo_audit", ["at"])
    op.create_table(
        "relevo_watched",
        sa.Column("tag", _Name, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        **exact,
    )


def downgrade() -> None:
    for table in ("relevo_watched", "relevo_audit"):
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
