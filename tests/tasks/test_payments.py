"""The money of an order, with a network that loses and delays: taken once, or given back once, and
never half known.
"""

from __future__ import annotations

import itertools

import pytest

from app.models import Distributor, Order, Product, Store, StoreProduct
from tasks import orders, payments
from tests.support.http_receiver import receiving
from tests.support.payment_provider import LATE, UNANSWERED, UNSENT, Provider

LOST = (UNSENT, UNANSWERED, LATE)
TOTAL = 300


@pytest.fixture(scope="module")
def bank():
    with receiving(Provider) as opened:
        yield opened


@pytest.fixture
def provider(bank, shop):
    bank.begin()
    shop.set(APP_PAYMENTS_URL=f"{bank.url}/payments")
    return bank


@pytest.fixture
def placed(shop):
    """Place an order; of what is ordered there are two, or none. Its number."""
    acme = shop.add(Distributor(name="Acme"))
    corner = shop.add(Store(user_id=shop.user().id, distributor_id=acme.id, name="Corner"))
    numbers = itertools.count()

    def place(stock=2):
        sku = f"S{next(numbers)}"
        product = shop.add(Product(distributor_id=acme.id, sku=sku, name="P", price=1, stock=stock))
        row = StoreProduct(
            store_id=corner.id,
            product_id=product.id,
            sku=sku,
            name="P",
            price=TOTAL // 2,
            stock=stock,
        )
        return orders.place(shop.user(sku).id, corner.id, {shop.add(row).id: 2})[0]

    return place


def ended(shop, provider, number):
    """What became of the order, when its jobs are done and whatever was late has arrived."""
    shop.queue.drain(including_delayed=True)
    provider.arrive()
    order = shop.row(Order, number)
    moved = provider.taken, provider.returned
    if order.picked_at:
        assert moved == (TOTAL, 0)
        return "done"
    assert order.failed_at
    assert moved in {(0, 0), (TOTAL, TOTAL)}
    assert (order.refunded_at is not None) == (moved == (TOTAL, TOTAL))
    return "failed, money back" if provider.taken else "failed"


@pytest.mark.parametrize("step", ["open", "confirm"])
@pytest.mark.parametrize("fate", LOST)
def test_a_lost_request_is_repeated(shop, provider, placed, step, fate):
    provider.network = {step: [fate]}
    assert ended(shop, provider, placed()) == "done"


@pytest.mark.parametrize("fate", LOST)
def test_a_charge_without_an_answer_is_undone_whether_it_was_made_or_not(
    shop, provider, placed, fate
):
    """The last try's too: what was taken goes back once, however often that has to be asked for,
    and a charge that comes when it was undone is refused.
    """
    made = fate == UNANSWERED
    for cancel, refund in itertools.product(["", *LOST], ["", *LOST] if made else [""]):
        provider.network = {
            "confirm": [fate] * 3,
            "look": [UNSENT] * 2,
            "cancel": [cancel] * 2,
            "refunds": [refund],
        }
        provider.taken = provider.returned = 0
        assert ended(shop, provider, placed()) == ("failed, money back" if made else "failed"), (
            cancel,
            refund,
        )


def test_a_payment_whose_opening_was_never_answered_takes_nothing(shop, provider, placed):
    provider.network = {"open": [UNANSWERED, LATE, UNANSWERED]}
    number = placed()
    assert ended(shop, provider, number) == "failed"
    assert (shop.row(Order, number).payment, len(provider.payments)) == (None, 1)


def test_a_charge_that_the_service_refuses_to_repeat_is_known_to_be_made(shop, provider, placed):
    provider.network = {"confirm": [UNANSWERED]}
    number = placed()
    assert ended(shop, provider, number) == "done"
    assert [asked.method for asked in provider.asked] == ["POST", "POST", "POST", "GET"]


def test_a_declined_payment_is_cancelled_and_one_without_stock_is_paid_back(shop, provider, placed):
    provider.declines = True
    number = placed()
    assert ended(shop, provider, number) == "failed"
    assert "declined: the service refused: 402" in shop.row(Order, number).error
    assert provider.payments[f"pi-{number}"].status == "canceled"
    provider.declines = False
    assert ended(shop, provider, placed(stock=1)) == "failed, money back"


def test_a_request_that_times_out_is_repeated(shop, provider, placed, monkeypatch):
    monkeypatch.setattr(payments, "TIMEOUT_SECONDS", 0.05)
    number = placed()
    with provider.held():
        shop.queue.drain(including_delayed=True)  # all tries of the payment are without an answer
        assert shop.row(Order, number).failed_at
    assert ended(shop, provider, number) == "failed"


def test_money_waits_for_a_service_that_is_away_for_days(shop, provider, placed):
    number = placed(stock=1)
    provider.network = {"cancel": [UNSENT] * 8}
    assert ended(shop, provider, number) == "failed, money back"
    tries, waits = orders.fail.options.tries, orders.fail.options.backoff
    assert sum(waits) + (tries - 1 - len(waits)) * waits[-1] > 3 * 24 * 60 * 60


def test_a_chain_that_is_cancelled_gives_the_money_back(shop, provider, placed):
    number = placed()
    shop.queue.run(orders.pay, number).assert_completed()
    for _ in range(2):
        shop.queue.run(orders.ended, "gone", number).assert_completed()
    assert ended(shop, provider, number) == "failed, money back"
    assert shop.row(Order, number).error == "it was cancelled"
    assert len(shop.mails) == 1


def test_a_refund_without_its_service_fails_and_can_be_retried(shop, provider, placed):
    number = placed(stock=1)
    shop.queue.run(orders.pay, number).assert_completed()
    shop.set(APP_PAYMENTS_URL="")
    shop.queue.run(orders.fail, number).assert_retried()
    shop.set(APP_PAYMENTS_URL=f"{provider.url}/payments")
    assert ended(shop, provider, number) == "failed, money back"


def test_an_order_that_is_done_is_not_undone_though_its_last_job_was_lost(shop, provider, placed):
    number = placed()
    assert ended(shop, provider, number) == "done"
    shop.queue.run(orders.fail, number).assert_completed()
    shop.queue.run(orders.ended, "gone", number).assert_completed()
    assert ended(shop, provider, number) == "done"


@pytest.mark.parametrize("charged", [True, False])
def test_an_order_that_is_undone_during_a_payment_keeps_no_money(shop, provider, placed, charged):
    """The worker stood still while another one took over, gave up and undid the order."""
    number, real = placed(), payments.charge

    def stands_still(reference):
        if charged:
            real(reference)
        shop.queue.run(orders.fail, number).assert_completed()
        real(reference)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payments, "charge", stands_still)
        shop.queue.run(orders.pay, number).assert_failed()
    assert ended(shop, provider, number) == ("failed, money back" if charged else "failed")
