"""orders.*: an order is a chain of payment, stock, confirmation, shipping and warehouse.

    place -> pay -> reserve -> confirm [-> ship] -> pick     each step once: its time is in the row
             a step fails for good, or is cancelled -> fail   stock and money go back, a mail tells
                                                              the customer

A killed step runs again and finds what it did: the order has the payment's reference before money
moves (payments.py), and the stock is taken in the transaction that notes it. `fail` first notes
that the order has failed. No step goes on after that, so `fail` sees all that is to be undone.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.models import Order, OrderLine, StoreProduct, session
from app.models.base import now
from relevo.batches.chain import NewChain
from relevo.errors import JobFailedError, OptionError
from tasks import app, email, payments, storage
from tasks.dispatch import dispatch_in
from tasks.tables import Table, write

MOST_LINES = 100
#: The largest total: a database's integer holds no more.
MOST_CENTS = 2**31 - 1
_STEP: dict[str, Any] = {
    "bind": True,
    "tries": 3,
    "timeout": 60,
    "backoff": [5, 30],
    "tags": lambda order_id: ["order", f"order:{order_id}"],
}
#: A customer's money is at stake: three days of tries, before people have to look.
_UNDOING: dict[str, Any] = {
    **_STEP,
    "tries": 80,
    "timeout": 120,
    "backoff": [5, 30, 60, 300, 900, 3600],
}


def place(
    user_id: int, store_id: int, lines: Mapping[int, int], shipping: str | None = None
) -> tuple[int, str]:
    """Place an order of `lines` (product of the store -> quantity). Returns its id and its chain's.

    Raises OptionError.
    """
    if not 1 <= len(lines) <= MOST_LINES or not all(quantity > 0 for quantity in lines.values()):
        raise OptionError(
            f"expected 1 to {MOST_LINES} products, each at least once, got {dict(lines)!r:.100}"
        )
    with session() as db:
        found = db.scalars(
            select(StoreProduct).where(
                StoreProduct.id.in_(lines), StoreProduct.store_id == store_id
            )
        )
        prices = {product.id: product.price for product in found}
        if missing := sorted(lines.keys() - prices.keys()):
            raise OptionError(f"expected products of the store {store_id}, got {missing}")
        total = sum(prices[product] * quantity for product, quantity in lines.items())
        if total > MOST_CENTS:
            raise OptionError(
                f"expected an order of at most {_money(MOST_CENTS)}, got {_money(total)}"
            )
        order = Order(user_id=user_id, store_id=store_id, shipping=shipping, total=total)
        order.lines = [
            OrderLine(store_product_id=product, quantity=quantity, price=prices[product])
            for product, quantity in lines.items()
        ]
        db.add(order)
        db.flush()
        return order.id, steps(order).dispatch(session=db).id


def steps(order: Order) -> NewChain:
    """The chain of an order. Shipping is a link of it only if there is an address."""
    links = [pay, reserve, confirm, ship if order.shipping else None, pick]
    made = app.chain(*(link and link.si(order.id) for link in links))
    return made.name(f"order {order.id}").catch(fail.si(order.id)).finally_(ended.s(order.id))


@app.task(name="orders.pay", **_STEP)
def pay(self: Any, order_id: int) -> str:
    """Charge the order. Returns the payment's reference, or `invoice` without a provider."""
    order = _get_order(order_id)
    _check_not_failed(self, order)
    if order.paid_at is None:
        try:
            if order.payment is None:
                order = _write(self, order_id, payment=payments.open_(order_id, order.total))
            payments.charge(str(order.payment))
        except JobFailedError as error:
            self.fail(JobFailedError(f"the payment was declined: {error}"))
        _write(self, order_id, paid_at=now())
    return str(order.payment)


@app.task(name="orders.reserve", **_STEP)
def reserve(self: Any, order_id: int) -> None:
    """Take all lines of the order out of the store's stock, or none."""
    try:
        with session() as db:
            order = db.get_one(Order, order_id, with_for_update=True)
            _check_not_failed(self, order)
            if order.reserved_at is None:
                for line in order.lines:
                    _move_stock(db, line, -line.quantity)
                order.reserved_at = now()
    except JobFailedError as error:
        self.fail(error)


@app.task(name="orders.confirm", **_STEP)
def confirm(self: Any, order_id: int) -> None:
    """Mail the customer a confirmation."""
    with session() as db:
        order = db.get_one(Order, order_id, with_for_update=True)
        _check_not_failed(self, order)
        order.confirmed_at = order.confirmed_at or now()
        total = _money(order.total)
        email.send_once(
            db,
            f"order-{order_id}-confirmed",
            "order_confirmed",
            order.user_id,
            order=order_id,
            total=total,
        )


@app.task(name="orders.ship", **_STEP)
def ship(self: Any, order_id: int) -> str:
    """Make the shipping label. Returns its path on the disk."""
    order = _get_order(order_id)
    _check_not_failed(self, order)
    address = [[line] for line in (order.shipping or "").splitlines()]
    path = _store_document(
        order_id, "label", "pdf", Table(f"Order {order_id}", ["Ship to"], address)
    )
    _write(self, order_id, shipped_at=now())
    return path


@app.task(name="orders.pick", **_STEP)
def pick(self: Any, order_id: int) -> str:
    """Make the pick list of the warehouse. Returns its path on the disk."""
    _check_not_failed(self, _get_order(order_id))
    with session() as db:
        query = select(StoreProduct.sku, StoreProduct.name, OrderLine.quantity).join(
            OrderLine, OrderLine.store_product_id == StoreProduct.id
        )
        rows = db.execute(
            query.where(OrderLine.order_id == order_id).order_by(StoreProduct.sku)
        ).all()
    path = _store_document(
        order_id, "pick", "csv", Table(f"Order {order_id}", ["sku", "name", "quantity"], rows)
    )
    _write(self, order_id, picked_at=now())
    return path


@app.task(name="orders.fail", **_UNDOING)
def fail(self: Any, order_id: int) -> None:
    """End the order as failed: undo what was done, once, and mail the customer."""
    with session() as db:
        order = db.get(Order, order_id, with_for_update=True)
        if order is None:
            self.fail(
                LookupError(
                    f"there is no order {order_id!r};"
                    f" the payment provider knows it as order-{order_id}"
                )
            )
        # A step that was done may have a failed job: its process was killed behind the commit.
        if order.picked_at is not None:
            return
        if order.failed_at is None:
            for line in order.lines if order.reserved_at else []:
                _move_stock(db, line, line.quantity)
            order.reserved_at, order.failed_at = None, now()
            email.send_once(
                db,
                f"order-{order_id}-failed",
                "order_failed",
                order.user_id,
                order=order_id,
                error=order.error or "something went wrong",
            )
    if order.payment is not None and order.refunded_at is None:
        taken = order.paid_at is not None or payments.cancel(order.payment)
        if taken and payments.refund(order.payment, order_id):
            with session() as db:
                db.get_one(Order, order_id).refunded_at = now()


@app.task(
    name="orders.ended", **{**_STEP, "tags": lambda _, order_id: ["order", f"order:{order_id}"]}
)
def ended(self: Any, chain_id: str, order_id: int) -> None:  # noqa: ARG001
    """The chain has ended. If a link was cancelled, `catch` was not called: then fail the order."""
    chain = app.batches.find(chain_id)
    with session() as db:
        order = db.get(Order, order_id, with_for_update=True)
        if order and not order.picked_at and not order.failed_at and not (chain and chain.failed):
            order.error = order.error or "it was cancelled"
            dispatch_in(db, fail, order_id, task_id=f"order-{order_id}-cancelled")


@pay.failed
@reserve.failed
@confirm.failed
@ship.failed
@pick.failed
def step_failed(job: Any, error: BaseException) -> None:
    """Write the error of the first failed step into the row. `fail` follows, as `catch`."""
    with session() as db:
        if order := db.get(Order, job.args[0] if job.args else job.kwargs["order_id"]):
            order.error = order.error or email.error_line(error)


def _check_not_failed(step: Any, order: Order) -> None:
    """Fail a step if its order has failed: the step was retried by hand after stock and money had
    gone back.
    """
    if order.failed_at is not None:
        step.fail(JobFailedError(f"order {order.id} has failed and was undone; place it again"))


def _get_order(order_id: int) -> Order:
    with session() as db:
        order = db.get(Order, order_id)
    if order is None:
        raise LookupError(f"there is no order {order_id!r}")
    return order


def _write(step: Any, order_id: int, **said: Any) -> Order:
    """Write what a step has done into the order's row. Columns that have a value keep it. Fails the
    step if the order has failed.
    """
    with session() as db:
        order = db.get_one(Order, order_id, with_for_update=True)
        _check_not_failed(step, order)
        for name, value in said.items():
            setattr(order, name, getattr(order, name) or value)
    return order


def _move_stock(db: Session, line: OrderLine, quantity: int) -> None:
    """Add a quantity to the stock, or take a negative one out. The database computes it, so that
    two orders can't take the last item.
    """
    stock = StoreProduct.stock + quantity
    mine = update(StoreProduct).where(StoreProduct.id == line.store_product_id, stock >= 0)
    if not db.execute(mine.values(stock=stock)).rowcount:
        raise JobFailedError(f"product {line.store_product_id} is out of stock")


def _store_document(order_id: int, name: str, kind: str, table: Table) -> str:
    file = io.BytesIO()
    write(kind, file, table.title, [table])
    path = f"orders/{order_id}/{name}.{kind}"
    storage.disk(storage.default()).put(path, file.getvalue())
    return path


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02} EUR"
