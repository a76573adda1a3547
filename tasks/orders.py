"""An order, as a chain: payment, stock, confirmation, shipping where there is something to ship, the warehouse.

    place -> pay -> reserve -> confirm [-> ship] -> pick      each once: its moment is in the order's row
               the first that fails for good: fail -> stock and money back, the customer told

A step that was killed runs again and finds what it did: the payment provider is told the same Idempotency-Key, the
stock is taken in the transaction that says so.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import settings
from app.models import Order, OrderLine, StoreProduct, session
from app.models.base import now
from relevo.errors import JobFailedError, OptionError
from relevo.job.chain import NewChain
from tasks import app, email, fetching, storage
from tasks.tables import Table, write

PATIENCE = 20
MOST_LINES = 100
_STEP: dict[str, Any] = {"bind": True, "tries": 3, "timeout": 60, "backoff": [5, 30],
                         "tags": lambda order_id: ["order", f"order:{order_id}"]}  # fmt: skip


def place(user_id: int, store_id: int, lines: Mapping[int, int], shipping: str | None = None) -> tuple[int, str]:
    """Take an order of `lines` (the store's product -> how many); its id and that of its chain. Raises OptionError."""
    if not 1 <= len(lines) <= MOST_LINES or not all(quantity > 0 for quantity in lines.values()):
        raise OptionError(f"expected 1 to {MOST_LINES} products, each at least once, got {dict(lines)!r:.100}")
    with session() as db:
        found = db.scalars(select(StoreProduct).where(StoreProduct.id.in_(lines), StoreProduct.store_id == store_id))
        prices = {product.id: product.price for product in found}
        if missing := sorted(lines.keys() - prices.keys()):
            raise OptionError(f"expected products of the store {store_id}, got {missing}")
        order = Order(user_id=user_id, store_id=store_id, shipping=shipping,
                      total=sum(prices[product] * quantity for product, quantity in lines.items()))  # fmt: skip
        order.lines = [OrderLine(store_product_id=product, quantity=quantity, price=prices[product])
                       for product, quantity in lines.items()]  # fmt: skip
        db.add(order)
        db.flush()
        return order.id, steps(order).dispatch(session=db).id


def steps(order: Order) -> NewChain:
    """The chain of an order; shipping is a link of it only where there is an address."""
    links = [pay, reserve, confirm, ship if order.shipping else None, pick]
    made = app.chain(*(link and link.si(order.id) for link in links))
    return made.name(f"order {order.id}").catch(fail.si(order.id))


@app.task(name="orders.pay", **_STEP)
def pay(self: Any, order_id: int) -> str:
    """Have the order charged; the provider's reference, or `invoice` where there is no provider."""
    order = _order(order_id)
    _goes_on(self, order)
    if order.paid_at is None:
        url = settings.application().payments_url
        try:
            order.payment = _charged(url, order) if url else "invoice"
        except JobFailedError as error:
            self.fail(JobFailedError(f"the payment was declined: {error}"))
        with session() as db:
            row = db.get_one(Order, order_id)
            row.payment, row.paid_at = order.payment, now()
    return str(order.payment)


@app.task(name="orders.reserve", **_STEP)
def reserve(self: Any, order_id: int) -> None:
    """Take what was ordered out of the store's stock: all of it, or nothing."""
    try:
        with session() as db:
            order = db.get_one(Order, order_id, with_for_update=True)
            _goes_on(self, order)
            if order.reserved_at is None:
                for line in order.lines:
                    _move(db, line, -line.quantity)
                order.reserved_at = now()
    except JobFailedError as error:
        self.fail(error)


@app.task(name="orders.confirm", **_STEP)
def confirm(self: Any, order_id: int) -> None:
    """Tell the customer."""
    with session() as db:
        order = db.get_one(Order, order_id)
        _goes_on(self, order)
        order.confirmed_at = order.confirmed_at or now()
        total = _money(order.total)
        email.once(db, f"order-{order_id}-confirmed", "order_confirmed", order.user_id, order=order_id, total=total)


@app.task(name="orders.ship", **_STEP)
def ship(self: Any, order_id: int) -> str:
    """Make the shipping label; its path on the disk."""
    order = _order(order_id)
    _goes_on(self, order)
    address = [[line] for line in (order.shipping or "").splitlines()]
    path = _kept(order_id, "label", "pdf", Table(f"Order {order_id}", ["Ship to"], address))
    _done(order_id, "shipped_at")
    return path


@app.task(name="orders.pick", **_STEP)
def pick(self: Any, order_id: int) -> str:
    """Give the warehouse its list; its path on the disk."""
    _goes_on(self, _order(order_id))
    with session() as db:
        query = select(StoreProduct.sku, StoreProduct.name, OrderLine.quantity).join(
            OrderLine, OrderLine.store_product_id == StoreProduct.id
        )
        rows = db.execute(query.where(OrderLine.order_id == order_id).order_by(StoreProduct.sku)).all()
    path = _kept(order_id, "pick", "csv", Table(f"Order {order_id}", ["sku", "name", "quantity"], rows))
    _done(order_id, "picked_at")
    return path


@app.task(name="orders.fail", **_STEP)
def fail(self: Any, order_id: int) -> None:  # noqa: ARG001 - bound as every step is
    """The chain has failed: what was done is undone, once, and the customer is told."""
    with session() as db:
        order = db.get_one(Order, order_id, with_for_update=True)
        if order.failed_at is None:
            for line in order.lines if order.reserved_at else []:
                _move(db, line, line.quantity)
            order.reserved_at, order.failed_at = None, now()
    url = settings.application().payments_url
    if order.paid_at is not None and url and order.payment != "invoice":
        fetching.ask("POST", f"{url}/{order.payment}/refunds", PATIENCE, {"order": order_id},
                     {"idempotency-key": f"order-{order_id}-refund"})  # fmt: skip
    reason = order.error or "something went wrong"
    with session() as db:
        email.once(db, f"order-{order_id}-failed", "order_failed", order.user_id, order=order_id, error=reason)


@pay.failed
@reserve.failed
@confirm.failed
@ship.failed
@pick.failed
def step_failed(job: Any, error: BaseException) -> None:
    """The first step that has failed says why; `fail` follows, the chain's `catch`."""
    with session() as db:
        if order := db.get(Order, job.args[0] if job.args else job.kwargs["order_id"]):
            order.error = order.error or email.told(error)


def _goes_on(step: Any, order: Order) -> None:
    """End a step of an order that has failed: somebody has put it back, and stock and money have gone back by then."""
    if order.failed_at is not None:
        step.fail(JobFailedError(f"order {order.id} has failed and was undone; it is to be placed anew"))


def _order(order_id: int) -> Order:
    with session() as db:
        order = db.get(Order, order_id)
    if order is None:
        raise LookupError(f"there is no order {order_id!r}")
    return order


def _done(order_id: int, moment: str) -> None:
    with session() as db:
        order = db.get_one(Order, order_id)
        setattr(order, moment, getattr(order, moment) or now())


def _charged(url: str, order: Order) -> str:
    told = fetching.ask("POST", url, PATIENCE, {"order": order.id, "amount": order.total, "currency": "EUR"},
                        {"idempotency-key": f"order-{order.id}"})  # fmt: skip
    if not isinstance(told.get("reference"), str) or not told["reference"].isalnum():
        raise JobFailedError("expected a reference of the payment provider")
    return str(told["reference"])[:255]


def _move(db: Session, line: OrderLine, quantity: int) -> None:
    """Put so many into the stock, or (negative) take them out: in the database, so that two orders can't take the
    last.
    """
    stock = StoreProduct.stock + quantity
    mine = update(StoreProduct).where(StoreProduct.id == line.store_product_id, stock >= 0)
    if not db.execute(mine.values(stock=stock)).rowcount:
        raise JobFailedError(f"product {line.store_product_id} is out of stock")


def _kept(order_id: int, name: str, kind: str, table: Table) -> str:
    file = io.BytesIO()
    write(kind, file, table.title, [table])
    path = f"orders/{order_id}/{name}.{kind}"
    storage.disk(storage.default()).put(path, file.getvalue())
    return path


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02} EUR"
