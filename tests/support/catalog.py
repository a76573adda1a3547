"""A distributor's catalogue."""

from __future__ import annotations

from sqlalchemy import insert, select

from app.models import Category, Product, Variant, session


def stock(distributor, products, variants=1):
    """Products in ten categories (every seventh in none), each with variants."""
    with session() as db:
        db.execute(
            insert(Category), [{"distributor_id": distributor, "name": f"C{n}"} for n in range(10)]
        )
        ids = db.scalars(select(Category.id).filter_by(distributor_id=distributor)).all()
        db.execute(
            insert(Product),
            [
                {
                    "distributor_id": distributor,
                    "category_id": ids[n % 10] if n % 7 else None,
                    "sku": f"S{n}",
                    "name": f"Product {n}",
                    "price": n,
                    "stock": 5,
                }
                for n in range(products)
            ],
        )
        if variants:
            of = db.scalars(select(Product.id).filter_by(distributor_id=distributor)).all()
            db.execute(
                insert(Variant),
                [
                    {"product_id": product, "name": f"V{n}", "extra": n}
                    for product in of
                    for n in range(variants)
                ],
            )
