"""Orders: the steps in their order, each once; the first that fails undoes what was done."""

from __future__ import annotations

import json

import pytest

from app.models import Distributor, Order, Product, Store, StoreProduct
from relevo.errors import OptionError
from tasks import orders, storage


@pytest.fixture
def store(shop):
    """A store with two products of which there are three; its id, and theirs."""
    user = shop.user()
    acme = shop.add(Distributor(name="Acme"))
    corner = shop.add(Store(user_id=user.id, distributor_id=acme.id, name="Corner"))
    ids = []
    for n in range(2):
        product = shop.add(
            Product(distributor_id=acme.id, sku=f"S{n}", name=f"P{n}", price=1, stock=3)
        )
        row = StoreProduct(
            store_id=corner.id,
            product_id=product.id,
            sku=f"S{n}",
            name=f"P{n}",
            price=150 + n,
            stock=3,
        )
        ids.append(shop.add(row).id)
    return user.id, corner.id, ids


def moments(order):
    return [
        name
        for name in (
            "paid_at",
            "reserved_at",
            "confirmed_at",
            "shipped_at",
            "picked_at",
            "failed_at",
        )
        if getattr(order, name)
    ]


def stock(shop, ids):
    return [shop.row(StoreProduct, number).stock for number in ids]


def test_an_order_with_nothing_to_ship_has_no_shipping_link(shop, store):
    user, corner, ids = store
    number, _ = orders.place(user, corner, {ids[0]: 2, ids[1]: 1})
    shop.queue.assert_chained([orders.pay, orders.reserve, orders.confirm, orders.pick])
    shop.queue.drain()
    order = shop.row(Order, number)
    assert (order.total, order.payment, moments(order)) == (
        451,
        "invoice",
        ["paid_at", "reserved_at", "confirmed_at", "picked_at"],
    )
    assert stock(shop, ids) == [1, 2]
    assert shop.subjects == [f"Your order {number} is confirmed"]
    with storage.disk("local").open(f"orders/{number}/pick.csv") as file:
        assert file.read().decode().split() == ["sku,name,quantity", "S0,P0,2", "S1,P1,1"]


def test_an_order_with_an_address_is_shipped_and_charged_once(shop, store, receiver):
    user, corner, ids = store
    shop.set(APP_PAYMENTS_URL=receiver.url)
    receiver.say((500, b""), (201, b'{"reference": "ch7"}'))
    number, _ = orders.place(user, corner, {ids[0]: 1}, shipping="Ada\nHigh Street 1")
    shop.queue.assert_chained(
        [orders.pay, orders.reserve, orders.confirm, orders.ship, orders.pick]
    )
    shop.queue.drain(including_delayed=True)
    order = shop.row(Order, number)
    assert (order.payment, order.shipped_at is not None) == ("ch7", True)
    assert [(asked.path, asked.headers.get("idempotency-key")) for asked in receiver.asked] == [
        ("/", f"order-{number}"),
        ("/", f"order-{number}"),
        ("/ch7/confirm", None),
    ]
    assert json.loads(receiver.asked[0].body) == {"order": number, "amount": 150, "currency": "EUR"}
    assert storage.disk("local").exists(f"orders/{number}/label.pdf")


def test_a_payment_that_is_declined_stops_the_chain_and_the_customer_is_told(shop, store, receiver):
    user, corner, ids = store
    shop.set(APP_PAYMENTS_URL=receiver.url)
    receiver.say(402)
    number, _ = orders.place(user, corner, {ids[0]: 1})
    shop.queue.drain()
    order = shop.row(Order, number)
    assert (moments(order), order.error) == (
        ["failed_at"],
        "the payment was declined: the service refused: 402",
    )
    assert stock(shop, ids) == [3, 3]
    assert shop.subjects == [f"Your order {number} could not be taken"]


def test_an_order_without_enough_stock_takes_none_and_the_money_goes_back(shop, store, receiver):
    user, corner, ids = store
    shop.set(APP_PAYMENTS_URL=receiver.url)
    receiver.say((200, b'{"reference": "ch8"}'), (200, b"{}"))
    number, _ = orders.place(user, corner, {ids[0]: 1, ids[1]: 4})
    shop.queue.drain()
    order = shop.row(Order, number)
    assert (moments(order), "out of stock" in order.error) == (["paid_at", "failed_at"], True)
    assert stock(shop, ids) == [3, 3]
    assert receiver.asked[-1].path == "/ch8/refunds"


@pytest.mark.parametrize("step", ["pay", "reserve", "confirm", "pick"])
def test_a_step_that_runs_again_does_nothing_again(shop, store, step):
    user, corner, ids = store
    number, _ = orders.place(user, corner, {ids[0]: 1})
    shop.queue.drain()
    before = shop.row(Order, number)
    shop.queue.run(getattr(orders, step), number).assert_completed()
    shop.queue.drain()
    after = shop.row(Order, number)
    assert stock(shop, ids) == [2, 3]
    assert moments(after) == moments(before)
    assert after.paid_at == before.paid_at
    assert len(shop.mails) == 1


@pytest.mark.parametrize("step", ["pay", "reserve", "confirm", "ship", "pick"])
def test_a_step_that_is_retried_after_the_order_was_undone_does_nothing(shop, store, step):
    """The money has gone back by then: the goods would have been sent for nothing, or money taken
    for nothing.
    """
    user, corner, ids = store
    number, _ = orders.place(user, corner, {ids[0]: 1, ids[1]: 4})
    shop.queue.drain()
    before, mails = shop.row(Order, number), len(shop.mails)
    shop.queue.run(getattr(orders, step), number).assert_failed(with_="was undone")
    assert moments(shop.row(Order, number)) == moments(before)
    assert stock(shop, ids) == [3, 3]
    assert len(shop.mails) == mails


def test_an_order_that_fails_twice_gives_the_stock_back_once(shop, store):
    user, corner, ids = store
    number, _ = orders.place(user, corner, {ids[0]: 2})
    shop.queue.run(orders.reserve, number).assert_completed()
    assert stock(shop, ids) == [1, 3]
    for _ in range(2):
        shop.queue.run(orders.fail, number).assert_completed()
    assert stock(shop, ids) == [3, 3]


@pytest.mark.parametrize("lines", [{}, {0: 1}, {1: 0}, {1: -1}, {999: 1}])
def test_an_invalid_order_is_refused_at_once(shop, store, lines):
    with pytest.raises(OptionError, match="expected"):
        orders.place(store[0], store[1], lines)
    shop.queue.assert_nothing_dispatched()


def test_an_order_too_large_for_a_database_integer_is_refused_at_once(shop, store):
    """PostgreSQL refuses the row: the answer was that the database is away, each time anew."""
    with pytest.raises(OptionError, match=r"at most 21474836\.47 EUR, got 30000000\.00 EUR"):
        orders.place(store[0], store[1], {store[2][0]: 20_000_000})
    shop.queue.assert_nothing_dispatched()
