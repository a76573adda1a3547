"""Metrics of each task and queue: jobs, failures, wait and run time. Served at /charts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from relevo import clock
from relevo.dashboard import charts
from relevo.dashboard.handlers import Page
from relevo.dashboard.pages.overview import draw_charts, ended_jobs, percentile
from relevo.dashboard.sources import Source
from relevo.store import metric_rollups, metrics
from relevo.store.history import Ended
from relevo.store.metrics import QUEUE, RAN, TASK, WAITED, Point

KINDS = {"tasks": TASK, "queues": QUEUE}
#: Seconds for which the sums of a range are cached.
CACHE_SECONDS = {"1h": 2, "24h": 30, "7d": 120}


@dataclass(frozen=True, slots=True)
class Row:
    """A task or queue in a range. `waited` and `ran` are p50, p95 and p99, in seconds."""

    name: str
    jobs: int
    failed: int
    per_minute: float
    waited: tuple[float | None, ...]
    ran: tuple[float | None, ...]


#: The sort key of each order.
ORDERS = {
    "jobs": lambda row: -row.jobs,
    "name": lambda row: row.name,
    "failed": lambda row: -row.failed / max(1, row.jobs),
    "wait": lambda row: -(row.waited[1] or 0),
    "run": lambda row: -(row.ran[1] or 0),
}


class MetricsPage(Page):
    """Jobs, failures, wait and run time of each task or queue."""

    template, title, tab = "relevo/metrics.html", "Metrics", "metrics_page"

    def gather(self, *_arguments: str) -> dict[str, Any]:
        source, now = self.application.source, clock.now()
        by, chosen, order = (
            self.choice("by", KINDS),
            self.choice("range", charts.RANGES),
            self.choice("sort", ORDERS),
        )
        name = self.field("name")
        rows = sorted(rows_of(source, KINDS[by], chosen, now), key=ORDERS[order])
        drawn = draw_charts(source, KINDS[by], name, chosen, now) if name else []
        return {
            "rows": rows,
            "by": by,
            "chosen": chosen,
            "order": order,
            "name": name,
            "charts": drawn,
            "ranges": list(charts.RANGES),
            "kinds": list(KINDS),
            "title": name or "Metrics",
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"by": values["by"], "range": values["chosen"], "rows": values["rows"]}


def rows_of(source: Source, kind: str, chosen: str, now: float) -> list[Row]:
    """A row for each task or queue with a job that ended in this range."""
    length, _ = charts.RANGES[chosen]
    since = int(now) // metrics.MINUTE_SECONDS * metrics.MINUTE_SECONDS - length
    points = source.cached(
        ("rows", kind, chosen),
        CACHE_SECONDS[chosen],
        lambda: metric_rollups.totals(source.store, kind, since, now + metrics.MINUTE_SECONDS),
    )
    return [_row(point, length / metrics.MINUTE_SECONDS) for point in points]


def _row(point: Point, minutes: float) -> Row:
    waited, ran = (
        tuple(percentile(point, measure, share) for share in (0.5, 0.95, 0.99))
        for measure in (WAITED, RAN)
    )
    return Row(
        point.name,
        ended_jobs(point),
        point.ended.get(Ended.FAILED, 0),
        ended_jobs(point) / minutes,
        waited,
        ran,
    )
