"""The broker of the app that a command was called for (`celery -A tasks …`)."""

from __future__ import annotations

from typing import Any

import click

from relevo.drivers import driver_for
from relevo.drivers.contract import Driver


def driver_of(context: click.Context) -> Driver:
    """The driver of the app's default connection."""
    app: Any = context.obj.app
    settings = getattr(app, "settings", None)
    connection = settings.connection if settings is not None else None
    if connection is not None and connection.driver == "sync":
        raise click.UsageError("the connection 'sync' runs jobs at once and keeps no queue; set QUEUE_CONNECTION")
    return driver_for(app.conf.broker_url, app.conf.broker_transport_options, app.conf.broker_use_ssl)
