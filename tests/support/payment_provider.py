"""A payment provider on the loopback, as docs/orders.md describes it: as strict as Stripe's
PaymentIntents, with a network before it that loses requests and answers, or delays a request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.support.http_receiver import Asked, Receiver

#: The fate of a request: it never arrives; its answer is lost; it arrives when the test says so.
UNSENT, UNANSWERED, LATE = "unsent", "unanswered", "late"


@dataclass
class Payment:
    reference: str
    amount: int
    status: str = "open"
    refund_key: str = ""


class Provider(Receiver):
    """`taken` and `returned` are cents. `network` says for each step (open, confirm, cancel,
    refunds, look) what happens to its next requests. Paths outside of `/payments` are answered
    as by a receiver.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begin()

    def begin(self) -> None:
        """Forget all payments."""
        self.asked.clear()
        self.payments: dict[str, Payment] = {}
        self.network: dict[str, list[str]] = {}
        self.on_the_way: list[Asked] = []
        self.taken = self.returned = 0
        self.declines = False

    def reply(self, asked: Asked) -> tuple[int, bytes, dict[str, str]] | None:
        if not asked.path.startswith("/payments"):
            return super().reply(asked)
        trouble = self.network.get(_step(asked)[0])
        fate = trouble.pop(0) if trouble else ""
        if fate == LATE:
            self.on_the_way.append(asked)
        if fate in {UNSENT, LATE}:
            return None
        status, payment = self._done(asked)
        told = {"reference": payment.reference, "status": payment.status} if payment else {}
        return None if fate == UNANSWERED else (status, json.dumps(told).encode(), {})

    def arrive(self) -> list[int]:
        """Let the delayed requests arrive; returns the statuses of their answers."""
        late, self.on_the_way = self.on_the_way, []
        return [self._done(asked)[0] for asked in late]

    def _done(self, asked: Asked) -> tuple[int, Payment | None]:
        step, reference = _step(asked)
        key = asked.headers.get("idempotency-key", "")
        if step == "open":
            made = Payment(key.replace("order", "pi"), json.loads(asked.body)["amount"])
            return 200, self.payments.setdefault(made.reference, made)
        payment = self.payments.get(reference)
        if payment is None:
            return 404, None
        return (200 if step == "look" else getattr(self, f"_{step}")(payment, key)), payment

    def _confirm(self, payment: Payment, _key: str) -> int:
        if payment.status != "open" or self.declines:
            return 402 if self.declines else 400
        payment.status = "succeeded"
        self.taken += payment.amount
        return 200

    def _cancel(self, payment: Payment, _key: str) -> int:
        if payment.status != "open":
            return 400
        payment.status = "canceled"
        return 200

    def _refunds(self, payment: Payment, key: str) -> int:
        if payment.status == "refunded" and payment.refund_key == key:
            return 200
        if payment.status != "succeeded":
            return 400
        payment.status, payment.refund_key = "refunded", key
        self.returned += payment.amount
        return 200


def _step(asked: Asked) -> tuple[str, str]:
    _, _, reference, *step = *asked.path.split("/"), ""  # /payments[/reference[/step]]
    if asked.method == "GET":
        return "look", reference
    return (step[0] if step and step[0] else "open"), reference
