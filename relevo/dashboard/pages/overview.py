"""The first page: how much runs, how well, where it waits, and who works."""

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
#: The minutes whose mean is "jobs per minute".
LATELY = 5
#: The middle, what one in twenty exceeds, and one in a hundred.
SHARES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


@dataclass(frozen=True, slots=True)
class Load:
    """A queue: what it holds, who works on it, and in how many seconds it should be empty."""

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
        await self.application.look_at_workers()

    def gather(self, *_arguments: str) -> dict[str, Any]:
        source, now = self.application.source, clock.now()
        chosen = self.choice("range", charts.RANGES)
        crew = workers(self.application.workers, now)
        problems: list[str] = []
        hour = _tried(problems, "The store", lambda: Hour(source, now))
        loads = _tried(problems, "The broker", lambda: workload(source, crew, hour))
        drawn = (
            _tried(problems, "", lambda: drawings(source, QUEUE, None, chosen, now))
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

    def told(self, values: dict[str, Any]) -> dict[str, Any]:
        hour: Hour | None = values["hour"]
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


#: How long a queue can be paused, in seconds ("": until it is resumed), and how that is called.
PAUSES = (("900", "15 minutes"), ("3600", "1 hour"), ("14400", "4 hours"), ("", "until resumed"))


class Hour:
    """The figures of the past hour, and the failures of the past week."""

    def __init__(self, source: Source, now: float) -> None:
        store, since = source.store, int(now) // 60 * 60 - HOUR
        self.queues = {point.name: point for point in _names(source, QUEUE, since, now)}
        self.tasks = _names(source, TASK, since, now)
        lately = int(now) // 60 * 60 - LATELY * 60
        recent = source.remembered(
            ("lately",),
            2,
            lambda: metric_rollups.totals(store, QUEUE, lately, lately + LATELY * 60),
        )
        self.per_minute = sum(map(jobs, recent)) / LATELY
        self.jobs = sum(map(jobs, self.queues.values()))
        self.failed = source.remembered(
            ("failed",), 5, lambda: failed.count_all(store, Filter(since=now - WEEK))
        )
        self.slowest = max(self.tasks, key=lambda point: spent(point, RAN, 0.95) or 0, default=None)
        self.slowest_ran = spent(self.slowest, RAN, 0.95) if self.slowest else None
        self.busiest = max(self.queues.values(), key=jobs, default=None)

    def mean_ran(self, queue: str) -> float | None:
        point = self.queues.get(queue)
        count = sum(point.ran.values()) if point else 0
        return point.seconds.get(RAN, 0.0) / count if point and count else None


def jobs(point: Point) -> int:
    """How many jobs ended."""
    return sum(point.ended.values())


def spent(point: Point, measure: str, share: float) -> float | None:
    """A percentile of waiting or running."""
    return histograms.percentile(point.waited if measure == WAITED else point.ran, share)


def workload(source: Source, crew: Sequence[Worker], hour: Hour | None) -> list[Load]:
    """A row a queue. Raises DriverError."""
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
        ended = jobs(hour.queues[name]) / 60 if hour and name in hour.queues else 0.0
        rows.append(Load(name, sizes, hands, ended, clears, name in paused, paused.get(name)))
    return rows


def longest_wait(loads: Sequence[Load]) -> Load | None:
    """The queue whose oldest pending job waits longest."""
    waiting = [load for load in loads if load.sizes.oldest is not None]
    return max(waiting, key=lambda load: load.sizes.oldest or 0, default=None)


def status(crew: Sequence[Worker], loads: Sequence[Load] | None) -> tuple[str, str]:
    """What it all comes to, and its look."""
    paused = [load.name for load in loads or [] if load.paused]
    if not crew:
        return "Inactive", "bad"
    if loads and len(paused) == len(loads):
        return "Paused", "warn"
    return ("Active", "good") if not paused else (f"{len(paused)} paused", "warn")


def drawings(source: Source, kind: str, name: str | None, chosen: str, now: float) -> list[str]:
    """The three charts of all queues, or of one task or queue."""
    time = charts.slots(chosen, now)
    # A slot that is over hardly changes, and a week is many rows: so old a chart may be that it
    # can't be seen.
    points = source.remembered(
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
    """Jobs a minute, by how they ended."""
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
    """The percentiles of waiting or running."""
    series = [
        Series(
            called,
            called,
            time.spread(points, lambda point, share=share: spent(point, measure, share)),  # type: ignore[misc]
        )
        for share, called in SHARES
    ]
    return charts.lines(title, time, series)


def _names(source: Source, kind: str, since: float, now: float) -> list[Point]:
    return source.remembered(
        ("names", kind),
        2,
        lambda: metric_rollups.totals(source.store, kind, since, now + metrics.MINUTE_SECONDS),
    )


def _tried(problems: list[str], what: str, look: Callable[[], Any]) -> Any:
    """What can be seen is shown, though the rest can't."""
    try:
        return look()
    except DriverError as error:
        if what:
            problems.append(f"{what} can't be reached: {error}")
        return None
