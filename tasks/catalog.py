"""catalog.copy_to_store: copies all products of a store's distributor, with their categories and
variants, to the store.

    a page of products -> in one transaction: its categories, products and variants, and the last
    copied id -> the next page

The database copies (INSERT … SELECT), so no product is in this process's memory. A killed run goes
on at its page. Two runs at the same time take turns at the store's row, and the unique keys of the
sources keep each row from being copied twice.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, insert, literal, select
from sqlalchemy.orm import Session, aliased

from app.models import (
    Category,
    Product,
    Store,
    StoreCategory,
    StoreProduct,
    StoreVariant,
    Variant,
    session,
)
from app.models.base import now
from tasks import app, email

#: Products in one transaction. On SQLite other writers wait for it: 0.1 s for 1,000 products.
PAGE = 1000


def tags_of(store_id: int) -> list[str]:
    return ["catalog", f"store:{store_id}"]


@app.task(
    name="catalog.copy_to_store",
    bind=True,
    tries=5,
    timeout=1800,
    backoff=[10, 30, 60],
    tags=tags_of,
)
def copy_to_store(self: Any, store_id: int) -> dict[str, int]:
    """Copy the catalogue. Returns how many of its products the store has."""
    with session() as db:
        store = db.get(Store, store_id)
        if store is None:
            raise LookupError(
                f"there is no store {store_id!r}: it was deleted, or is not committed yet"
            )
        own = Product.distributor_id == store.distributor_id
        total = db.scalar(select(func.count()).select_from(Product).where(own)) or 0
    while True:
        copied, more = _copy_page(store_id)
        self.progress(min(copied, total), total)
        if more and self.should_stop:  # the worker stops; the released job goes on at the next page
            self.release()
        if not more:
            return {"store": store_id, "products": copied}


@copy_to_store.failed
def copy_failed(job: Any, error: BaseException) -> None:
    """Write the error of the last try into the store's row. The copied products stay, and the next
    run goes on from there.
    """
    with session() as db:
        if store := db.get(Store, job.args[0] if job.args else job.kwargs["store_id"]):
            store.error = email.error_line(error)


def _copy_page(store_id: int) -> tuple[int, bool]:
    """Copy the next page. Returns how many products are copied, and whether there may be more."""
    with session() as db:
        store = db.get_one(Store, store_id, with_for_update=True)
        own = select(Product.id).where(
            Product.distributor_id == store.distributor_id, Product.id > store.copied_to
        )
        page = db.scalars(own.order_by(Product.id).limit(PAGE)).all()
        if not page:
            store.copied_at, store.error = now(), None
            return store.copied, False
        _copy(db, store, (store.copied_to, page[-1]))
        store.copied_to = page[-1]
        in_store = (
            select(func.count()).select_from(StoreProduct).where(StoreProduct.store_id == store_id)
        )
        store.copied = db.scalar(in_store) or 0
        return store.copied, True


def _copy(db: Session, store: Store, ids: tuple[int, int]) -> None:
    """Copy categories, then products, then variants: each names the copied row it belongs to."""
    there, made, mine = aliased(StoreCategory), aliased(StoreProduct), aliased(StoreVariant)
    mark = literal(store.id)
    sold = (
        Product.distributor_id == store.distributor_id,
        Product.id > ids[0],
        Product.id <= ids[1],
    )

    categories = select(mark, Category.id, Category.name).where(
        Category.id.in_(select(Product.category_id).where(*sold)),
        _none(there, there.category_id == Category.id, store),
    )
    _insert(db, StoreCategory, ["store_id", "category_id", "name"], categories)

    products = (
        select(mark, Product.id, there.id, Product.sku, Product.name, Product.price, Product.stock)
        .outerjoin(there, (there.store_id == store.id) & (there.category_id == Product.category_id))
        .where(*sold, _none(made, made.product_id == Product.id, store))
        .order_by(Product.id)
    )
    columns = ["store_id", "product_id", "store_category_id", "sku", "name", "price", "stock"]
    _insert(db, StoreProduct, columns, products)

    variants = (
        select(made.id, Variant.id, Variant.name, Variant.extra)
        .join(Product, Variant.product_id == Product.id)
        .join(made, (made.store_id == store.id) & (made.product_id == Product.id))
        .where(
            *sold,
            ~select(mine.id)
            .where(mine.store_product_id == made.id, mine.variant_id == Variant.id)
            .exists(),
        )
        .order_by(Variant.id)
    )
    _insert(db, StoreVariant, ["store_product_id", "variant_id", "name", "extra"], variants)


def _none(copy: Any, same: Any, store: Store) -> Any:
    return ~select(copy.id).where(copy.store_id == store.id, same).exists()


def _insert(db: Session, model: Any, columns: list[str], rows: Select[Any]) -> None:
    db.execute(insert(model).from_select(columns, rows))
