"""Distributors and their products, stores and their copies of them, orders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.models.base import UTF8, Moment

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_distributors()
    _create_categories()
    _create_products()
    _create_variants()
    _create_stores()
    _create_store_categories()
    _create_store_products()
    _create_store_variants()
    _create_orders()
    _create_order_lines()


def _create_distributors() -> None:
    op.create_table(
        "distributors",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_distributors"),
        **UTF8,
    )


def _create_categories() -> None:
    op.create_table(
        "categories",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("distributor_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.ForeignKeyConstraint(
            ["distributor_id"],
            ["distributors.id"],
            name="fk_categories_distributor_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_categories"),
        sa.UniqueConstraint("distributor_id", "name", name="uq_categories_distributor_id"),
        **UTF8,
    )


def _create_products() -> None:
    op.create_table(
        "products",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("distributor_id", sa.Integer, nullable=False),
        sa.Column("category_id", sa.Integer, nullable=True),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("price", sa.Integer, nullable=False),
        sa.Column("stock", sa.Integer, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.CheckConstraint("price >= 0 AND stock >= 0", name=op.f("ck_products_amounts")),
        sa.ForeignKeyConstraint(
            ["category_id"], ["categories.id"], name="fk_products_category_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["distributor_id"],
            ["distributors.id"],
            name="fk_products_distributor_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_products"),
        sa.UniqueConstraint("distributor_id", "sku", name="uq_products_distributor_id"),
        **UTF8,
    )
    op.create_index("ix_products_category_id", "products", ["category_id"])


def _create_variants() -> None:
    op.create_table(
        "variants",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("product_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("extra", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_variants_product_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_variants"),
        sa.UniqueConstraint("product_id", "name", name="uq_variants_product_id"),
        **UTF8,
    )


def _create_stores() -> None:
    op.create_table(
        "stores",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("distributor_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("copied_to", sa.Integer, nullable=False),
        sa.Column("copied", sa.Integer, nullable=False),
        sa.Column("copied_at", Moment, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.ForeignKeyConstraint(
            ["distributor_id"],
            ["distributors.id"],
            name="fk_stores_distributor_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_stores_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_stores"),
        **UTF8,
    )
    op.create_index("ix_stores_distributor_id", "stores", ["distributor_id"])
    op.create_index("ix_stores_user_id", "stores", ["user_id"])


def _create_store_categories() -> None:
    op.create_table(
        "store_categories",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("store_id", sa.Integer, nullable=False),
        sa.Column("category_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.ForeignKeyConstraint(
            ["category_id"],
            ["categories.id"],
            name="fk_store_categories_category_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name="fk_store_categories_store_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_store_categories"),
        sa.UniqueConstraint("store_id", "category_id", name="uq_store_categories_store_id"),
        **UTF8,
    )


def _create_store_products() -> None:
    op.create_table(
        "store_products",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("store_id", sa.Integer, nullable=False),
        sa.Column("product_id", sa.Integer, nullable=False),
        sa.Column("store_category_id", sa.Integer, nullable=True),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("price", sa.Integer, nullable=False),
        sa.Column("stock", sa.Integer, nullable=False),
        sa.CheckConstraint("price >= 0 AND stock >= 0", name=op.f("ck_store_products_amounts")),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_store_products_product_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["store_category_id"],
            ["store_categories.id"],
            name="fk_store_products_store_category_id",
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name="fk_store_products_store_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_store_products"),
        sa.UniqueConstraint("store_id", "product_id", name="uq_store_products_store_id"),
        **UTF8,
    )


def _create_store_variants() -> None:
    op.create_table(
        "store_variants",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("store_product_id", sa.Integer, nullable=False),
        sa.Column("variant_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("extra", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["store_product_id"],
            ["store_products.id"],
            name="fk_store_variants_store_product_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["variant_id"], ["variants.id"], name="fk_store_variants_variant_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_store_variants"),
        sa.UniqueConstraint(
            "store_product_id", "variant_id", name="uq_store_variants_store_product_id"
        ),
        **UTF8,
    )


def _create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("store_id", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("shipping", sa.Text, nullable=True),
        sa.Column("payment", sa.String(255), nullable=True),
        sa.Column("paid_at", Moment, nullable=True),
        sa.Column("reserved_at", Moment, nullable=True),
        sa.Column("confirmed_at", Moment, nullable=True),
        sa.Column("shipped_at", Moment, nullable=True),
        sa.Column("picked_at", Moment, nullable=True),
        sa.Column("failed_at", Moment, nullable=True),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.CheckConstraint("total >= 0", name=op.f("ck_orders_total")),
        sa.ForeignKeyConstraint(
            ["store_id"], ["stores.id"], name="fk_orders_store_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_orders_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
        **UTF8,
    )
    op.create_index("ix_orders_store_id", "orders", ["store_id"])
    op.create_index("ix_orders_user_id", "orders", ["user_id"])


def _create_order_lines() -> None:
    op.create_table(
        "order_lines",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("order_id", sa.Integer, nullable=False),
        sa.Column("store_product_id", sa.Integer, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("price", sa.Integer, nullable=False),
        sa.CheckConstraint("quantity > 0 AND price >= 0", name=op.f("ck_order_lines_amounts")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name="fk_order_lines_order_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["store_product_id"],
            ["store_products.id"],
            name="fk_order_lines_store_product_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_order_lines"),
        sa.UniqueConstraint("order_id", "store_product_id", name="uq_order_lines_order_id"),
        **UTF8,
    )
    op.create_index("ix_order_lines_store_product_id", "order_lines", ["store_product_id"])


def downgrade() -> None:
    for table in (
        "order_lines",
        "orders",
        "store_variants",
        "store_products",
        "store_categories",
        "stores",
        "variants",
        "products",
        "categories",
        "distributors",
    ):
        op.drop_table(table)
