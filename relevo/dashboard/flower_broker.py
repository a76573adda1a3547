"""The sizes of the queues, in the form of Flower's broker page.

Flower itself asks RabbitMQ's management API or counts Redis lists; here the driver is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import celery

from relevo.drivers.contract import Driver
from relevo.transport.transport import Transport


class Broker:
    """A broker in Flower's sense: rows for the given queues, and for others that hold jobs."""

    def __init__(self, app: celery.Celery, workers: Mapping[str, Mapping[str, Any]]) -> None:
        self._app, self._workers = app, workers

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """One row for each queue, read in a thread so that Flower's loop never waits. Raises
        DriverError.
        """
        consumers = count_consumers(self._workers)
        return await asyncio.get_running_loop().run_in_executor(
            None, _rows, self._app, list(names), consumers
        )


def uses_relevo_driver(app: celery.Celery) -> bool:
    """Whether the app uses its broker through one of Relevo's drivers."""
    with app.connection_for_read() as connection:
        return isinstance(connection.transport, Transport)


def count_consumers(workers: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many workers take jobs from each queue, by what Flower's inspector knows of them."""
    counted: dict[str, int] = {}
    for worker in workers.values():
        for queue in worker.get("active_queues") or []:
            counted[queue["name"]] = counted.get(queue["name"], 0) + 1
    return counted


def _rows(
    app: celery.Celery, names: list[str], consumers: Mapping[str, int]
) -> list[dict[str, Any]]:
    with app.connection_for_read() as connection:
        connection.connect()
        driver: Driver = connection.transport.driver
    others = [name for name in driver.queues() if name not in names]
    return [_row(driver, name, consumers.get(name, 0)) for name in (*names, *others)]


def _row(driver: Driver, name: str, consumers: int) -> dict[str, Any]:
    sizes = driver.sizes(name)
    return {
        "name": name,
        "messages": sizes.pending + sizes.delayed + sizes.reserved,
        "messages_ready": sizes.pending,
        "messages_unacknowledged": sizes.reserved,
        "messages_delayed": sizes.delayed,
        "oldest_ready_seconds": sizes.oldest,
        "consumers": consumers,
    }
