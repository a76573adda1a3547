"""Teaches kombu our schemes, so that an ordinary url (`redis://…`, `sqlite:///…`) uses a driver."""

from __future__ import annotations

from celery import signals
from kombu.transport import TRANSPORT_ALIASES

from relevo.drivers import SCHEMES
from relevo.transport import transport

TRANSPORT = "relevo.transport.transport:Transport"


def register_transport() -> None:
    """Make kombu use our transport for our schemes, and tell it when a worker starts and stops.

    Safe to call again.
    """
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = TRANSPORT
    signals.worker_init.connect(transport.worker_starts)
    signals.worker_shutting_down.connect(transport.worker_stops)
    signals.worker_shutdown.connect(transport.worker_ended)
