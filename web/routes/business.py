"""Routes of stores, orders and cases."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.models import Case, Distributor, Order, Store, StoreProduct, session
from relevo.errors import OptionError
from tasks import cases, catalog, orders
from web import access
from web.access import Caller
from web.idempotency import IdempotentRoute
from web.pagination import After, Limit, Page, as_dict, page
from web.routes.documents import accept
from web.schemas import Accepted, Id, NewCase, NewOrder, NewStore

router = APIRouter(prefix="/api", tags=["business"], route_class=IdempotentRoute)
Shopkeeper = Annotated[Caller, Depends(access.require_ability("stores"))]
Buyer = Annotated[Caller, Depends(access.require_ability("orders"))]
Clerk = Annotated[Caller, Depends(access.require_ability("cases"))]
STORE = ("distributor_id", "name", "copied", "copied_at", "error", "created_at")
ORDER = (
    "store_id",
    "total",
    "shipping",
    "payment",
    "paid_at",
    "reserved_at",
    "confirmed_at",
    "shipped_at",
    "picked_at",
    "failed_at",
    "refunded_at",
    "error",
    "created_at",
)


@router.post("/stores", status_code=202)
def create_store(given: NewStore, caller: Shopkeeper) -> Accepted:
    """Open a store; its distributor's products are copied to it in the background."""
    row = Store(user_id=caller.id, distributor_id=given.distributor_id, name=given.name)
    with session() as db:
        if db.get(Distributor, given.distributor_id) is None:
            raise HTTPException(404, f"there is no distributor {given.distributor_id}")
        return accept(db, row, catalog.copy_to_store, "long")


@router.get("/stores/{store_id}")
def show_store(store_id: Id, caller: Shopkeeper) -> dict[str, Any]:
    """A store, and how far its copy of the catalogue is."""
    with session() as db:
        return as_dict(access.get_own(db, Store, store_id, caller), STORE)


@router.get("/stores/{store_id}/products")
def products(store_id: Id, caller: Shopkeeper, limit: Limit = 50, after: After = None) -> Page:
    """The products of a store. Prices are in cents."""
    with session() as db:
        access.get_own(db, Store, store_id, caller)
    query = select(StoreProduct).filter_by(store_id=store_id)
    return page(query, StoreProduct, limit, after, ("sku", "name", "price", "stock"))


@router.post("/orders", status_code=202)
def place(given: NewOrder, caller: Buyer) -> Accepted:
    """Place an order: payment, stock, confirmation, shipping if there is an address, warehouse."""
    lines = {line.product_id: line.quantity for line in given.lines}
    if len(lines) < len(given.lines):
        raise HTTPException(422, "expected each product once")
    try:
        number, job = orders.place(caller.id, given.store_id, lines, given.shipping)
    except OptionError as error:
        raise HTTPException(400, str(error)) from error
    return Accepted(id=number, job=job, queue="critical")


@router.get("/orders/{order_id}")
def show_order(order_id: Id, caller: Buyer) -> dict[str, Any]:
    """An order, and which of its steps are done."""
    with session() as db:
        return as_dict(access.get_own(db, Order, order_id, caller), ORDER)


@router.post("/cases", status_code=202)
def create_case(given: NewCase, caller: Clerk) -> Accepted:
    """Create a case; its data is fetched in the background."""
    row = Case(user_id=caller.id, number=given.number)
    try:
        with session() as db:
            return accept(db, row, cases.fetch, "high")
    except IntegrityError as error:
        raise HTTPException(409, f"there is a case {given.number!r} already") from error


@router.get("/cases/{case_id}")
def show_case(case_id: Id, caller: Clerk) -> dict[str, Any]:
    """A case, and its data once it was fetched."""
    with session() as db:
        return as_dict(
            access.get_own(db, Case, case_id, caller),
            ("number", "data", "fetched_at", "error", "created_at"),
        )
