"""The tables of the system-health report: the machine (psutil), the sizes of the queues, the
metrics of the last hour, the failed jobs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import psutil
from sqlalchemy import func, select

from relevo import clock
from relevo.drivers import driver_for
from relevo.store import histograms, metrics
from relevo.store.history import Ended
from relevo.store.store import store_for
from relevo.store.tables import failed
from tasks import app
from tasks.tables import Table

HOUR = 3600
#: Seconds over which the CPU is measured.
SAMPLE = 0.2


def system_health(_user_id: int) -> list[Table]:
    """The machine, each queue now, and each task of the last hour."""
    return [
        Table("Machine", ["figure", "value"], list(machine().items())),
        Table(
            "Queues",
            ["queue", "pending", "delayed", "reserved", "oldest waits (s)"],
            list(queues()),
        ),
        Table(
            "Tasks, last hour",
            ["task", "completed", "failed", "p50 (s)", "p95 (s)", "p99 (s)"],
            list(tasks()),
        ),
        Table("Failed jobs", ["task", "jobs"], list(failures())),
    ]


def machine() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    root = app.settings.var_dir
    while not root.exists():
        root = root.parent
    disk = shutil.disk_usage(root)
    return {
        "CPUs": psutil.cpu_count(),
        "CPU (%)": psutil.cpu_percent(SAMPLE),
        "load (1 min)": psutil.getloadavg()[0],
        "memory (bytes)": memory.total,
        "memory used (%)": memory.percent,
        "disk (bytes)": disk.total,
        "disk used (%)": round(100 * disk.used / disk.total, 1),
        "up since": clock.utc(psutil.boot_time()),
    }


def queues() -> Iterator[list[Any]]:
    """Every declared queue, and every other queue with jobs. Empty for a broker without a driver of
    ours.
    """
    connection = app.settings.connection
    if connection.driver not in {"database", "redis"}:
        return
    driver = driver_for(connection.url, connection.transport_options)
    for name in dict.fromkeys([*app.amqp.queues, *sorted(driver.queues())]):
        sizes = driver.sizes(name)
        yield [
            name,
            sizes.pending,
            sizes.delayed,
            sizes.reserved,
            sizes.oldest and round(sizes.oldest, 1),
        ]


def tasks() -> Iterator[list[Any]]:
    now = clock.now()
    points = metrics.read(store_for(app.settings.database_url), metrics.TASK, now - HOUR, now + 1)
    for name in sorted({point.name for point in points}):
        own = [point for point in points if point.name == name]
        ran = metrics.merge_histograms(own, metrics.RAN)
        ended = [
            sum(point.ended.get(state, 0) for point in own)
            for state in (Ended.COMPLETED, Ended.FAILED)
        ]
        yield [name, *ended, *(histograms.percentile(ran, share) for share in (0.5, 0.95, 0.99))]


def failures() -> Iterator[list[Any]]:
    query = (
        select(failed.c.task, func.count())
        .where(failed.c.retried_at.is_(None))
        .group_by(failed.c.task)
        .order_by(func.count().desc())
        .limit(100)
    )
    rows = store_for(app.settings.database_url).read(
        lambda connection: connection.execute(query).all()
    )
    yield from (list(row) for row in rows)
