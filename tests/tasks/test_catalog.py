"""catalog.copy_to_store: everything once, whatever kills it, and however often it runs."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select

from app.models import (
    Distributor,
    Product,
    Store,
    StoreCategory,
    StoreProduct,
    StoreVariant,
    Variant,
    session,
)
from relevo.execution import stop_flag
from tasks import catalog
from tests.support.catalog import stock


@pytest.fixture
def distributor(shop):
    return shop.add(Distributor(name="Acme")).id


def test_a_worker_that_is_to_stop_need_not_wait_for_the_whole_catalogue(
    shop, distributor, monkeypatch
):
    monkeypatch.setattr(catalog, "PAGE", 2)
    stock(distributor, 5)
    number = store(shop, distributor)
    monkeypatch.setattr(stop_flag, "is_requested", lambda: True)
    shop.queue.run(catalog.copy_to_store, number).assert_released(0)
    assert shop.row(Store, number).copied == 2
    monkeypatch.setattr(stop_flag, "is_requested", lambda: False)
    shop.queue.run(catalog.copy_to_store, number).assert_completed()
    assert shop.row(Store, number).copied == 5


def store(shop, distributor):
    return shop.add(
        Store(
            user_id=shop.user(f"Owner{threading.get_native_id()}").id,
            distributor_id=distributor,
            name="Corner",
        )
    ).id


def count(model):
    with session() as db:
        return db.scalar(select(func.count()).select_from(model))


def check(products, variants):
    """Each product once, in the copy of its own category, with its own variants."""
    assert (count(StoreProduct), count(StoreVariant)) == (products, variants)
    wrong = (
        select(func.count())
        .select_from(StoreProduct)
        .join(Product, Product.id == StoreProduct.product_id)
        .outerjoin(StoreCategory, StoreCategory.id == StoreProduct.store_category_id)
        .where(func.coalesce(StoreCategory.category_id, 0) != func.coalesce(Product.category_id, 0))
    )
    strayed = (
        select(func.count())
        .select_from(StoreVariant)
        .join(Variant, Variant.id == StoreVariant.variant_id)
        .join(StoreProduct, StoreProduct.id == StoreVariant.store_product_id)
        .where(StoreProduct.product_id != Variant.product_id)
    )
    with session() as db:
        assert db.scalar(wrong) == db.scalar(strayed) == 0


def test_all_products_are_copied_with_what_belongs_to_them_and_those_of_others_are_not(
    shop, distributor
):
    stock(shop.add(Distributor(name="Other")).id, 20)
    stock(distributor, 2500, variants=2)
    number = store(shop, distributor)
    catalog.copy_to_store.delay(number)
    attempt = shop.queue.drain()[0]
    attempt.assert_completed({"store": number, "products": 2500})
    attempt.assert_progress((1000, 2500), (2000, 2500), (2500, 2500), (2500, 2500))
    check(2500, 5000)
    assert shop.row(Store, number).copied_at is not None


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_copy_that_is_killed_anywhere_and_run_again_doubles_nothing(
    shop, distributor, monkeypatch, steps
):
    stock(distributor, 250)
    number = store(shop, distributor)
    monkeypatch.setattr(catalog, "PAGE", 100)
    left = [
        steps * 3 - 1
        # three inserts a page: dies when a page's products are in and its variants aren't
    ]
    real = catalog._insert

    def dying(*given):
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit
        real(*given)

    monkeypatch.setattr(catalog, "_insert", dying)
    with pytest.raises(SystemExit):
        catalog.copy_to_store(number)
    assert count(StoreProduct) == (steps - 1) * 100
    monkeypatch.setattr(catalog, "_insert", real)
    for _ in range(2):
        catalog.copy_to_store.delay(number)
        shop.queue.drain()
        check(250, 250)


def test_products_that_come_later_are_copied_by_the_next_run(shop, distributor):
    stock(distributor, 10)
    number = store(shop, distributor)
    for products in (10, 11):
        catalog.copy_to_store(number)
        check(products, 10)
        shop.add(
            Product(distributor_id=distributor, sku=f"new{products}", name="new", price=1, stock=1)
        )


def test_two_runs_at_the_same_time_take_turns(shop, distributor, monkeypatch):
    stock(distributor, 500)
    monkeypatch.setattr(catalog, "PAGE", 50)
    number = store(shop, distributor)
    threads = [threading.Thread(target=catalog.copy_to_store, args=(number,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(500, 500)


def test_a_store_that_is_not_there_is_tried_again_for_it_may_not_be_committed_yet(shop):
    catalog.copy_to_store.delay(999)
    shop.queue.drain()[0].assert_retried(10, with_="no store 999")
