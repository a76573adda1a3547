"""Payments of orders at the service of APP_PAYMENTS_URL.

    open -> a reference, which the order keeps -> confirm: succeeded -> refunds: refunded
                                               -> cancel:  canceled; a later confirm is refused

A payment has its reference before any money moves, so its state can always be asked for. It ends as
succeeded or as canceled, never as both, whatever message is lost or late. Stripe's PaymentIntents
work the same way; docs/orders.md has the requests and answers.

`open` needs an Idempotency-Key, since there is no reference yet, and so does the refund, since a
payment may have several. The other steps may be repeated as they are.
"""

from __future__ import annotations

import re

from app import settings
from relevo.errors import JobFailedError
from tasks import service_client

TIMEOUT_SECONDS = 20
#: The reference of an order where there is no service.
INVOICE = "invoice"
_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,255}")
PROCESSING, SUCCEEDED, CANCELED, REFUNDED = "processing", "succeeded", "canceled", "refunded"


def open_(order: int, amount: int) -> str:
    """Open a payment of `amount` cents for an order. Returns its reference. No money moves yet."""
    url = settings.application().payments_url
    if url is None:
        return INVOICE
    answer = service_client.request_json(
        "POST",
        url,
        TIMEOUT_SECONDS,
        {"order": order, "amount": amount, "currency": "EUR"},
        {"idempotency-key": f"order-{order}"},
    )
    reference = answer.get("reference")
    if (
        not isinstance(reference, str)
        or not _REFERENCE.fullmatch(reference)
        or reference == INVOICE
    ):
        raise JobFailedError("expected a reference of the payment provider")
    return reference


def charge(reference: str) -> None:
    """Take the money. Raises JobFailedError if it was declined, ServiceError if that is not known
    yet.
    """
    if reference != INVOICE:
        _request_step(reference, "confirm", {SUCCEEDED}, done=SUCCEEDED)


def cancel(reference: str) -> bool:
    """Cancel a payment, so that a `charge` which arrives later is refused. Returns whether the
    money was taken before.
    """
    return (
        reference != INVOICE
        and _request_step(reference, "cancel", {CANCELED, SUCCEEDED, REFUNDED}) != CANCELED
    )


def refund(reference: str, order: int) -> bool:
    """Refund a payment once. Returns False for an invoice, of which no money was taken."""
    if reference == INVOICE:
        return False
    _request_step(reference, "refunds", {REFUNDED}, done=REFUNDED, key=f"order-{order}-refund")
    return True


def _request_step(
    reference: str, step: str, wanted: set[str], done: str | None = None, key: str | None = None
) -> str:
    """Request a step. Returns the payment's state after it, or `done` if the answer has none.

    A refused step may have been done before, so then the payment's state decides.
    """
    url = settings.application().payments_url
    if url is None:
        raise JobFailedError(f"expected APP_PAYMENTS_URL, where the payment {reference} is known")
    refused = None
    try:
        answer = service_client.request_json(
            "POST",
            f"{url}/{reference}/{step}",
            TIMEOUT_SECONDS,
            {},
            {"idempotency-key": key} if key else {},
        )
        status = answer.get("status", done)
    except JobFailedError as error:
        refused, status = (
            error,
            service_client.request_json("GET", f"{url}/{reference}", TIMEOUT_SECONDS).get("status"),
        )
    if status in wanted:
        return str(status)
    if status == PROCESSING:
        raise service_client.ServiceError(f"the payment {reference} is being processed")
    raise refused or JobFailedError(
        f"expected the payment to be {' or '.join(sorted(wanted))}, got {status!r:.60}"
    )
