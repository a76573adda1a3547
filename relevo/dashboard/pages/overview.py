"""The first page: status, figures of the past hour, charts, the load of the queues, the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from relevo import clock
from relevo.dashboard import charts
from relevo.dashboard.charts import Series, Slots
from relevo.dashboard.handlers import Page
from relevo.dashboard.sources import Source, Worker, workers
from relevo.drivers.contract import Sizes
from relevo.errors import DriverError
from relevo.store import failed, histograms, metric_rollups, metrics
from relevo.store.failed import Filter
from relevo.store.history import Ended
from relevo.store.metrics import QUEUE, RAN, TASK, WAITED, Point

HOUR, WEEK = 3600, 604_800
#: "Jobs per minute" is the mean of this many minutes.
LATELY = 5
#: The percentiles of a chart of durations.
SHARES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """A queue: its jobs, its worker processes, and `clears`: seconds until it should be empty."""

    name: str
    sizes: Sizes
    processes: int
    per_minute: float
    clears: float | None
    paused: bool
    until: float | None


class OverviewPage(Page):
    """Status, figures of the past hour, queues, workers."""

    template, title, tab = "relevo/overview.html", "Overview", "overview"

    async def prepare(self) -> None:
        await super().prepare()
        await self.application.ask_workers()

    def gather(self, *_arguments: str) -> dict[str, Any]:
        source, now = self.application.source, clock.now()
        chosen = self.choice("range", charts.RANGES)
        crew = workers(self.application.workers, now)
        problems: list[str] = []
        hour = _or_problem(problems, "The store", lambda: HourStats(source, now))
        loads = _or_problem(problems, "The broker", lambda: workload(source, crew, hour))
        drawn = (
            _or_problem(problems, "", lambda: draw_charts(source, QUEUE, None, chosen, now))
            if hour
            else None
        )
        hosts: dict[str, list[Worker]] = {}
        for worker in sorted(crew, key=lambda worker: (worker.host, worker.name)):
            hosts.setdefault(worker.host, []).append(worker)
        return {
            "problems": problems,
            "hour": hour,
            "loads": loads,
            "charts": drawn,
            "hosts": hosts,
            "chosen": chosen,
            "ranges": list(charts.RANGES),
            "status": status(crew, loads),
            "pauses": PAUSES,
            "processes": sum(worker.processes for worker in crew),
            "longest": longest_wait(loads or []),
        }

    def as_json(self, values: dict[str, Any]) -> dict[str, Any]:
        hour: HourStats | None = values["hour"]
        return {
            "status": values["status"][0],
            "processes": values["processes"],
            "problems": values["problems"],
            "jobs_per_minute": hour and hour.per_minute,
            "jobs_past_hour": hour and hour.jobs,
            "failed_past_7_days": hour and hour.failed,
            "longest_wait": values["longest"] and values["longest"].sizes.oldest,
            "queues": values["loads"],
            "workers": [worker for crew in values["hosts"].values() for worker in crew],
        }


#: The lengths of a pause in seconds ("": until resumed), and their names.
PAUSES = (("900", "15 minutes"), ("3600", "1 hour"), ("14400", "4 hours"), ("", "until resumed"))


class HourStats:
    """The figures of the past hour, and the failures of the past week."""

    def __init__(self, source: Source, now: float) -> None:
        store, since = source.store, int(now) // 60 * 60 - HOUR
        self.queues = {point.name: point for point in _points(source, QUEUE, since, now)}
        self.tasks = _points(source, TASK, since, now)
        lately = int(now) // 60 * 60 - LATELY * 60
        recent = source.cached(
            ("lately",),
            2,
            lambda: metric_rollups.totals(store, QUEUE, lately, lately + LATELY * 60),
        )
        self.per_minute = sum(map(ended_jobs, recent)) / LATELY
        self.jobs = sum(map(ended_jobs, self.queues.values()))
        self.failed = source.cached(
            ("failed",), 5, lambda: failed.count_all(store, Filter(since=now - WEEK))
        )
        self.slowest = max(
            self.tasks, key=lambda point: percentile(point, RAN, 0.95) or 0, default=None
        )
        self.slowest_ran = percentile(self.slowest, RAN, 0.95) if self.slowest else None
        self.busiest = max(self.queues.values(), key=ended_jobs, default=None)

    def mean_ran(self, queue: str) -> float | None:
        point = self.queues.get(queue)
        count = sum(point.ran.values()) if point else 0
        return point.seconds.get(RAN, 0.0) / count if point and count else None


def ended_jobs(point: Point) -> int:
    """How many jobs ended in the time of a point."""
    return sum(point.ended.values())


def percentile(point: Point, measure: str, share: float) -> float | None:
    """A percentile of the wait or the run time, in seconds."""
    return histograms.percentile(point.waited if measure == WAITED else point.ran, share)


def workload(source: Source, crew: Sequence[Worker], hour: HourStats | None) -> list[QueueLoad]:
    """The load of each queue. Raises DriverError."""
    driver, processes = source.driver, dict[str, int]()
    for worker in crew:
        for queue in worker.queues:
            processes[queue] = processes.get(queue, 0) + worker.processes
    paused = driver.paused()
    rows = []
    for name in source.queues(list(processes)):
        sizes, hands = driver.sizes(name), processes.get(name, 0)
        mean = hour.mean_ran(name) if hour else None
        clears = (
            sizes.pending * mean / hands if sizes.pending and mean is not None and hands else None
        )
        ended = ended_jobs(hour.queues[name]) / 60 if hour and name in hour.queues else 0.0
        rows.append(QueueLoad(name, sizes, hands, ended, clears, name in paused, paused.get(name)))
    return rows


def longest_wait(loads: Sequence[QueueLoad]) -> QueueLoad | None:
    """The queue whose oldest pending job waits longest."""
    waiting = [load for load in loads if load.sizes.oldest is not None]
    return max(waiting, key=lambda load: load.sizes.oldest or 0, default=None)


def status(crew: Sequence[Worker], loads: Sequence[QueueLoad] | None) -> tuple[str, str]:
    """The status of the whole, and the class of the style sheet for it."""
    paused = [load.name for load in loads or [] if load.paused]
    if not crew:
        return "Inactive", "bad"
    if loads and len(paused) == len(loads):
        return "Paused", "warn"
    return ("Active", "good") if not paused else (f"{len(paused)} paused", "warn")


def draw_charts(source: Source, kind: str, name: str | None, chosen: str, now: float) -> list[str]:
    """The three charts of all queues, or of one task or queue."""
    time = charts.slots(chosen, now)
    # A past slot hardly changes, and a week has many rows: a chart is cached for a time in which no
    # change could be seen.
    points = source.cached(
        ("slots", kind, name, chosen),
        {"1h": 2, "24h": 30}.get(chosen, 120),
        lambda: metric_rollups.slots(
            source.store, kind, time.starts[0], time.until, time.step, name
        ),
    )
    return [
        throughput(time, points),
        durations("Wait", time, points, WAITED),
        durations("Run time", time, points, RAN),
    ]


def throughput(time: Slots, points: Sequence[Point]) -> str:
    """A chart of jobs per minute, by how they ended."""
    minutes = time.step / 60
    drawn = {Ended.COMPLETED: "good", Ended.CANCELLED: "quiet", Ended.FAILED: "bad"}
    series = []
    for state, look in drawn.items():
        values = time.spread(
            points,
            lambda point, state=state: point.ended.get(state, 0) / minutes,  # type: ignore[misc]
            0.0,
        )
        if any(values) or state is not Ended.CANCELLED:
            series.append(Series(str(state), look, values))
    return charts.bars("Throughput", time, series, " a minute")


def durations(title: str, time: Slots, points: Sequence[Point], measure: str) -> str:
    """A chart of the percentiles of the wait or the run time."""
    series = [
        Series(
            called,
            called,
            time.spread(points, lambda point, share=share: percentile(point, measure, share)),  # type: ignore[misc]
        )
        for share, called in SHARES
    ]
    return charts.lines(title, time, series)


def _points(source: Source, kind: str, since: float, now: float) -> list[Point]:
    return source.cached(
        ("names", kind),
        2,
        lambda: metric_rollups.totals(source.store, kind, since, now + metrics.MINUTE_SECONDS),
    )


def _or_problem(problems: list[str], what: str, look: Callable[[], Any]) -> Any:
    """The result of `look`; if a server can't be reached, None and a message in `problems`."""
    try:
        return look()
    except DriverError as error:
        if what:
            problems.append(f"{what} can't be reached: {error}")
        return None
