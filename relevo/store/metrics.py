"""Metrics: how many jobs of each task and queue ended per minute, how long they waited and ran.

prepare  adds jobs and seconds to rows of relevo_metrics (minute, task or queue, name, measure,
         bucket)
read     returns a Point for each minute and name, with histograms for percentiles
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from relevo.database import text, upserts
from relevo.store import histograms, pages
from relevo.store.history import Ended, EndedJob
from relevo.store.store import Store
from relevo.store.tables import metrics

MINUTE_SECONDS = 60
TASK, QUEUE = "task", "queue"
WAITED, RAN = "waited", "ran"

_COLUMNS = ("minute", "kind", "name", "measure", "bucket", "jobs", "seconds")
Key = tuple[int, str, str, str, int]


@dataclass(slots=True)
class Point:
    """One minute of a task or queue. `minute` is the instant at which it began, in POSIX seconds.

    `ended` counts jobs by state. `waited` and `ran` are histograms (bucket -> jobs), and `seconds`
    holds their sums.
    """

    minute: int
    name: str
    ended: dict[Ended, int] = field(default_factory=dict)
    waited: dict[int, int] = field(default_factory=dict)
    ran: dict[int, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def prepare(jobs: Sequence[EndedJob]) -> Callable[[Connection], None]:
    """Return a function that adds the ends to their minutes, in the caller's transaction."""
    sums: dict[Key, list[float]] = defaultdict(lambda: [0, 0.0])
    for job in jobs:
        minute = int(job.ended_at) // MINUTE_SECONDS * MINUTE_SECONDS
        for kind, name in ((TASK, text.name(job.task)), (QUEUE, text.name(job.queue))):
            for measure, bucket, seconds in _measures(job):
                added = sums[minute, kind, name, measure, bucket]
                added[0] += 1
                added[1] += seconds
    # All workers write in the same order: otherwise two that lock each other's rows would deadlock.
    rows = [
        dict(zip(_COLUMNS, (*key, int(count), seconds), strict=True))
        for key, (count, seconds) in sorted(sums.items())
    ]

    def write(connection: Connection) -> None:
        if rows:
            connection.execute(
                upserts.insert_or_add(connection.dialect.name, metrics, ("jobs", "seconds")), rows
            )

    return write


def _measures(job: EndedJob) -> Iterable[tuple[str, int, float]]:
    yield job.state.value, 0, 0.0
    if job.waited is not None:
        yield WAITED, histograms.bucket(job.waited), job.waited
    if job.ran is not None:
        yield RAN, histograms.bucket(job.ran), job.ran


def read(
    store: Store, kind: str, since: float, until: float, name: str | None = None
) -> list[Point]:
    """Return the minutes from `since` to before `until`, of all tasks or queues, or of one.

    A minute without a job is left out.
    """
    query = select(metrics).where(
        metrics.c.kind == kind, metrics.c.minute >= since, metrics.c.minute < until
    )
    if name is not None:
        query = query.where(metrics.c.name == name)
    query = query.order_by(metrics.c.minute, metrics.c.name)
    points: dict[tuple[int, str], Point] = {}
    for row in store.read(lambda connection: connection.execute(query).all()):
        point = points.setdefault((row.minute, row.name), Point(row.minute, row.name))
        if row.measure in (WAITED, RAN):
            histogram = point.waited if row.measure == WAITED else point.ran
            histogram[row.bucket] = row.jobs
            point.seconds[row.measure] = point.seconds.get(row.measure, 0.0) + row.seconds
        else:
            point.ended[Ended(row.measure)] = row.jobs
    return list(points.values())


def merge_histograms(points: Iterable[Point], measure: str) -> dict[int, int]:
    """Add up the histograms of several minutes or names."""
    total: dict[int, int] = defaultdict(int)
    for point in points:
        for bucket, jobs in (point.waited if measure == WAITED else point.ran).items():
            total[bucket] += jobs
    return dict(total)


def prune(store: Store, before: float) -> int:
    """Delete the minutes that began before an instant. Returns how many rows."""
    return pages.prune(store, metrics, metrics.c.minute < int(before))
