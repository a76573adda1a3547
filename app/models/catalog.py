"""The catalogue of a distributor, and each store's copy of it.

A `store_*` row names the row that it was copied from. Unique keys allow one copy of each row in a
store, however often it is copied.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import UTF8, Base, now


class Distributor(Base):
    __tablename__ = "distributors"
    __table_args__ = (UTF8,)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Category(Base):
    __tablename__ = "categories"
    __table_args__ = (UniqueConstraint("distributor_id", "name"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    distributor_id: Mapped[int] = mapped_column(ForeignKey("distributors.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))


class Product(Base):
    """`price` is in cents."""

    __tablename__ = "products"
    __table_args__ = (
        UniqueConstraint("distributor_id", "sku"),
        CheckConstraint("price >= 0 AND stock >= 0", name="amounts"),
        UTF8,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    distributor_id: Mapped[int] = mapped_column(ForeignKey("distributors.id", ondelete="CASCADE"))
    category_id: Mapped[int | None] = mapped_column(
        ForeignKey("categories.id", ondelete="SET NULL"), index=True
    )
    sku: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    price: Mapped[int]
    stock: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Variant(Base):
    """A product in another size or colour, at `extra` cents more or less."""

    __tablename__ = "variants"
    __table_args__ = (UniqueConstraint("product_id", "name"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    extra: Mapped[int]


class Store(Base):
    """`copied_to` is the id of the last copied product. `copied_at` is set when all are copied,
    `error` when the copy failed.
    """

    __tablename__ = "stores"
    __table_args__ = (UTF8,)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    distributor_id: Mapped[int] = mapped_column(
        ForeignKey("distributors.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(255))
    copied_to: Mapped[int] = mapped_column(default=0)
    copied: Mapped[int] = mapped_column(default=0)
    copied_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)


class StoreCategory(Base):
    __tablename__ = "store_categories"
    __table_args__ = (UniqueConstraint("store_id", "category_id"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"))
    category_id: Mapped[int] = mapped_column(ForeignKey("categories.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))


class StoreProduct(Base):
    __tablename__ = "store_products"
    __table_args__ = (
        UniqueConstraint("store_id", "product_id"),
        CheckConstraint("price >= 0 AND stock >= 0", name="amounts"),
        UTF8,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"))
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id", ondelete="CASCADE"))
    store_category_id: Mapped[int | None] = mapped_column(
        ForeignKey("store_categories.id", ondelete="SET NULL")
    )
    sku: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    price: Mapped[int]
    stock: Mapped[int]


class StoreVariant(Base):
    __tablename__ = "store_variants"
    __table_args__ = (UniqueConstraint("store_product_id", "variant_id"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    store_product_id: Mapped[int] = mapped_column(
        ForeignKey("store_products.id", ondelete="CASCADE")
    )
    variant_id: Mapped[int] = mapped_column(ForeignKey("variants.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    extra: Mapped[int]
