"""The broker and the store of the app that a command is called for (`celery -A tasks …`)."""

from __future__ import annotations

from typing import Any

import click

from relevo.database import schema
from relevo.drivers import driver_for
from relevo.drivers.contract import Driver
from relevo.errors import SchemaError
from relevo.store.store import Store, store_for


def driver_of(context: click.Context) -> Driver:
    """The driver of the app's default connection. Raises UsageError for the connection `sync`."""
    app: Any = context.obj.app
    settings = getattr(app, "settings", None)
    connection = settings.connection if settings is not None else None
    if connection is not None and connection.driver == "sync":
        raise click.UsageError(
            "the connection 'sync' runs jobs at once and keeps no queue; set QUEUE_CONNECTION"
        )
    return driver_for(
        app.conf.broker_url, app.conf.broker_transport_options, app.conf.broker_use_ssl
    )


def store_of(context: click.Context) -> Store:
    """The app's store. Raises DriverUnavailableError if it can't be reached, SchemaError if its
    tables have another version than the code.
    """
    settings = getattr(context.obj.app, "settings", None)
    if settings is None:
        raise click.UsageError("this app has no store: it was not made by `relevo.create_app`")
    store = store_for(settings.database_url)
    found = store.read(schema.version)
    if found != schema.NEWEST:
        raise SchemaError(
            f"expected the tables of the store to be of version {schema.NEWEST},"
            f" got {found or 'none'}; run `celery -A tasks schema upgrade`"
        )
    return store
