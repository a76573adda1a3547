"""Flower's application with our broker. Everything else is Flower's: its pages, its API, its options.

Who may do what is Flower's, too: pages can be seen by whoever reaches the address (loopback, unless FLOWER_ADDRESS says
otherwise) and, with FLOWER_BASIC_AUTH, knows a password; the API, and with it every action, is refused without one.
"""

from __future__ import annotations

from typing import Any

from flower.api.tasks import GetQueueLengths
from flower.app import Flower
from flower.views.broker import BrokerView
from tornado.web import url

from relevo.dashboard.queues import Broker, is_ours


class OurBroker:
    """For handlers that look at the broker."""

    application: Any

    def get_broker(self) -> Broker:
        """Flower's name for it."""
        return Broker(self.application.capp, self.application.workers)


class QueuesPage(OurBroker, BrokerView):
    """/broker."""


class QueuesAPI(OurBroker, GetQueueLengths):
    """/api/queues/length."""


class Dashboard(Flower):
    """Flower, whose handlers of the broker are ours where the driver is."""

    def __init__(self, options: Any = None, capp: Any = None, **settings: Any) -> None:
        super().__init__(options=options, capp=capp, **settings)
        if is_ours(self.capp):
            self.add_handlers(".*", _routes(self.options.url_prefix or ""))


def _routes(url_prefix: str) -> list[Any]:
    prefix = f"/{url_prefix.strip('/')}" if url_prefix else ""
    return [
        url(f"{prefix}/broker", QueuesPage, name="broker"),
        url(f"{prefix}/api/queues/length", QueuesAPI),
    ]
