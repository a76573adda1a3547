"""Orders of a store's products. Each step of an order has a column for the time it was done."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import UTF8, Base, now


class Order(Base):
    """`total` is in cents. `payment` is the reference at the payment provider, or `invoice` without
    one; it is known before money moves. An order with `failed_at` gets its money back, if the
    provider has taken it, at `refunded_at`.
    """

    __tablename__ = "orders"
    __table_args__ = (CheckConstraint("total >= 0", name="total"), UTF8)

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"), index=True)
    total: Mapped[int]
    shipping: Mapped[str | None] = mapped_column(Text)
    payment: Mapped[str | None] = mapped_column(String(255))
    paid_at: Mapped[datetime | None]
    reserved_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    shipped_at: Mapped[datetime | None]
    picked_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    refunded_at: Mapped[datetime | None]

    lines: Mapped[list[OrderLine]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by=lambda: OrderLine.id
    )


class OrderLine(Base):
    __tablename__ = "order_lines"
    __table_args__ = (
        UniqueConstraint("order_id", "store_product_id"),
        CheckConstraint("quantity > 0 AND price >= 0", name="amounts"),
        UTF8,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"))
    store_product_id: Mapped[int] = mapped_column(
        ForeignKey("store_products.id", ondelete="CASCADE"), index=True
    )
    quantity: Mapped[int]
    price: Mapped[int]
