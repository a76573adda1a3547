"""Money of orders, at the service of APP_PAYMENTS_URL. A payment has a name before any money moves,
so its outcome can always be asked for, and it ends in one of two ways that exclude each other,
whatever gets lost or comes late.

    open -> its reference, which the order keeps -> confirm: succeeded -> refunds: refunded
                                                 -> cancel:  canceled, and a confirm that comes later is refused

As Stripe's PaymentIntents do; docs/orders.md has what is asked and what is expected. To open takes
an Idempotency-Key, since it has no name yet; so does the refund, of which there might be several.
The others can be done again as they are.
"""

from __future__ import annotations

import re

from app import settings
from relevo.errors import JobFailedError
from tasks import service_client

TIMEOUT_SECONDS = 20
#: What an order has in the place of a reference where there is no service.
INVOICE = "invoice"
_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,255}")
PROCESSING, SUCCEEDED, CANCELED, REFUNDED = "processing", "succeeded", "canceled", "refunded"


def open_(order: int, amount: int) -> str:
    """The reference of an order's payment, of so many cents, by which no money has moved yet."""
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
    """Take the money. Raises ServiceError while nobody knows, JobFailedError when it was not taken."""
    if reference != INVOICE:
        _request_step(reference, "confirm", {SUCCEEDED}, done=SUCCEEDED)


def cancel(reference: str) -> bool:
    """Let no money be taken from now on, also not by what is asked already and arrives later.
    Whether it was before.
    """
    return (
        reference != INVOICE
        and _request_step(reference, "cancel", {CANCELED, SUCCEEDED, REFUNDED}) != CANCELED
    )


def refund(reference: str, order: int) -> bool:
    """Have what was taken go back, once. Whether there was anything to be taken: there is none of
    an invoice.
    """
    if reference == INVOICE:
        return False
    _request_step(reference, "refunds", {REFUNDED}, done=REFUNDED, key=f"order-{order}-refund")
    return True


def _request_step(
    reference: str, step: str, wanted: set[str], done: str | None = None, key: str | None = None
) -> str:
    """Ask for a step; the state the payment then has, `done` if the answer doesn't say. What is
    refused may have been done before: the payment says.
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
