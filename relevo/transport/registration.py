"""Registers our transport with kombu, so that an ordinary url (`redis://…`) uses a driver."""

from __future__ import annotations

from celery import signals
from kombu.transport import TRANSPORT_ALIASES

from relevo.drivers import SCHEMES
from relevo.transport import context

TRANSPORT = "relevo.transport.transport:Transport"


def register_transport() -> None:
    """Make kombu use our transport for our schemes, and follow a worker's start, stop and end.

    May be called again.
    """
    for scheme in SCHEMES:
        TRANSPORT_ALIASES[scheme] = TRANSPORT
    signals.worker_init.connect(context.start_worker)
    signals.worker_shutting_down.connect(context.wake_worker)
    signals.worker_shutdown.connect(context.end_worker)
