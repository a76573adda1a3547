"""Metrics of a longer time: the database adds up the minutes of relevo_metrics, by slot or by name.

A week has ten thousand minutes, for each queue and each bucket, while a chart draws a hundred
points. The rows are read by the primary key, which begins with the minute.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func, literal, select

from relevo.store.history import Ended
from relevo.store.metrics import RAN, WAITED, Point
from relevo.store.store import Store
from relevo.store.tables import metrics


def slots(
    store: Store, kind: str, since: float, until: float, step: int, name: str | None = None
) -> list[Point]:
    """Return a point for every `step` seconds in which a job ended.

    It counts all tasks or queues together, or one of them.
    """
    slot = metrics.c.minute - metrics.c.minute % step
    return _read(store, kind, since, until, slot, literal(name or ""), name)


def totals(store: Store, kind: str, since: float, until: float) -> list[Point]:
    """Return a point of the whole time for each task or queue of which a job ended in it."""
    return _read(store, kind, since, until, literal(int(since)), metrics.c.name, None)


def _read(
    store: Store,
    kind: str,
    since: float,
    until: float,
    slot: ColumnElement[Any],
    label: ColumnElement[Any],
    name: str | None,
) -> list[Point]:
    slot, label = slot.label("slot"), label.label("called")
    columns = [slot, label, metrics.c.measure, metrics.c.bucket]
    query = select(
        *columns,
        func.sum(metrics.c.jobs).label("jobs"),
        func.sum(metrics.c.seconds).label("seconds"),
    )
    query = query.where(
        metrics.c.kind == kind, metrics.c.minute >= int(since), metrics.c.minute < int(until)
    )
    if name is not None:
        query = query.where(metrics.c.name == name)
    # By label: PostgreSQL takes two parameters of one value as two different expressions.
    query = query.group_by("slot", "called", metrics.c.measure, metrics.c.bucket).order_by(
        "slot", "called"
    )
    points: dict[tuple[int, str], Point] = {}
    for row in store.read(lambda connection: connection.execute(query).all()):
        _add(points.setdefault((int(row.slot), row.called), Point(int(row.slot), row.called)), row)
    return list(points.values())


def _add(point: Point, row: Any) -> None:
    jobs = int(row.jobs)
    if row.measure not in (WAITED, RAN):
        point.ended[Ended(row.measure)] = jobs
        return
    histogram = point.waited if row.measure == WAITED else point.ran
    histogram[row.bucket] = jobs
    point.seconds[row.measure] = point.seconds.get(row.measure, 0.0) + row.seconds
