"""/metrics/relevo: queues, jobs and workers for Prometheus, beside Flower's own /metrics.

The values come from the store and the broker, so they are complete from the first scrape and count
the jobs of all workers. If one of the two can't be reached, its metrics are left out and
`relevo_up` is 0. Names after the first MOST_NAMES are counted together as `(other)`.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from tornado.web import authenticated

from relevo import clock
from relevo.dashboard.handlers import Handler
from relevo.dashboard.sources import Source, workers
from relevo.errors import DriverError
from relevo.store import batches, failed, histograms, outbox
from relevo.store.counters import SECONDS, Counters, Sums
from relevo.store.history import Ended
from relevo.store.metrics import QUEUE, RAN, TASK, WAITED

#: How many tasks and queues have a series of their own, and the name of the others together.
MOST_NAMES, OTHER = 100, "(other)"
#: Seconds for which an answer is cached.
CACHE_SECONDS = 5.0
#: The most failed jobs and open batches that are counted.
MOST_COUNTED = 10_000
#: Bounds of the histograms: two for each power of ten, every fourth of the store's buckets.
BOUNDS = [
    (step, f"{histograms.SHORTEST_SECONDS * 10 ** (step / histograms.PER_TENFOLD):.3g}")
    for step in range(0, histograms.LAST_BUCKET, histograms.PER_TENFOLD // 2)
]


class PrometheusPage(Handler):
    """/metrics/relevo."""

    @authenticated
    async def get(self) -> None:
        await self.application.ask_workers()
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.write(await self.run(self.application.exposition.text))


class Exposition:
    """Makes the metrics. A dashboard has one, since it keeps the counters."""

    def __init__(self, source: Source, inspected: Callable[[], dict[str, Any]]) -> None:
        self._source, self._inspected = source, inspected
        self._totals = {kind: Counters(kind) for kind in (TASK, QUEUE)}
        self._own_series: dict[str, set[str]] = defaultdict(set)
        self._lock = threading.Lock()

    def text(self) -> bytes:
        """The metrics as text, at most CACHE_SECONDS seconds old."""
        with self._lock:
            return self._source.cached(("prometheus",), CACHE_SECONDS, self._text)

    def _text(self) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_ReadyFamilies(list(self._families())))
        return generate_latest(registry)

    def _families(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("relevo_up", "Whether this part could be reached.", labels=["part"])
        for part, look in (("store", self._store_metrics), ("broker", self._broker_metrics)):
            try:
                yield from list(look())
            except DriverError:
                up.add_metric([part], 0)
            else:
                up.add_metric([part], 1)
        yield up
        crew = workers(self._inspected(), clock.now())
        yield GaugeMetricFamily(
            "relevo_workers", "Workers that have answered lately.", value=len(crew)
        )
        processes = sum(worker.processes for worker in crew)
        yield GaugeMetricFamily(
            "relevo_worker_processes", "Jobs that they can run at once.", value=processes
        )

    # --- the broker -------------------------------------------------------------------------------
    def _broker_metrics(self) -> Iterator[Metric]:
        driver = self._source.driver
        sizes: Counter[tuple[str, str]] = Counter()
        oldest: dict[str, float] = {}
        paused = driver.paused()
        for queue in self._source.queues():
            name, found = self._name(QUEUE, queue), driver.sizes(queue)
            for state in ("pending", "delayed", "reserved"):
                sizes[name, state] += getattr(found, state)
            oldest[name] = max(oldest.get(name, 0.0), found.oldest or 0.0)
        depth = GaugeMetricFamily(
            "relevo_queue_jobs", "Jobs in a queue.", labels=["queue", "state"]
        )
        for key, jobs in sizes.items():
            depth.add_metric(key, jobs)
        age = GaugeMetricFamily(
            "relevo_queue_oldest_seconds",
            "How long the oldest job that could run waits.",
            labels=["queue"],
        )
        for name, seconds in oldest.items():
            age.add_metric([name], seconds)
        held = sum(jobs for (_, state), jobs in sizes.items() if state == "reserved")
        yield from (depth, age)
        yield GaugeMetricFamily("relevo_leases_held", "Jobs that workers hold.", value=held)
        yield GaugeMetricFamily(
            "relevo_queues_paused", "Queues that are paused.", value=len(paused)
        )

    # --- the store --------------------------------------------------------------------------------
    def _store_metrics(self) -> Iterator[Metric]:
        store, now = self._source.store, clock.now()
        for kind, totals in self._totals.items():
            yield from self._jobs(kind, totals.read(store, now))
        yield GaugeMetricFamily(
            "relevo_failed_jobs",
            f"Failed jobs that have not been retried, up to {MOST_COUNTED}.",
            value=failed.count_up_to(store, MOST_COUNTED),
        )
        yield GaugeMetricFamily(
            "relevo_batches_open",
            f"Batches that have not finished, up to {MOST_COUNTED}.",
            value=batches.count_open(store, MOST_COUNTED),
        )
        waiting = GaugeMetricFamily(
            "relevo_outbox_jobs", "Jobs that wait for a broker to come back.", labels=["connection"]
        )
        for each in outbox.status(store):
            waiting.add_metric([each.connection], each.jobs)
        yield waiting

    def _jobs(self, kind: str, sums: Sums) -> Iterable[Metric]:
        added: Sums = Counter()
        for (name, what, bucket), jobs in sums.items():
            added[self._name(kind, name), what, bucket] += jobs
        ended = CounterMetricFamily(
            f"relevo_{kind}_jobs_ended", "Jobs that have ended.", labels=[kind, "state"]
        )
        for (name, what, _), jobs in added.items():
            if what in set(Ended):
                ended.add_metric([name, what], jobs)
        yield ended
        for measure, word in ((WAITED, "wait"), (RAN, "run")):
            family = HistogramMetricFamily(
                f"relevo_{kind}_{word}_seconds", f"How long jobs {measure}.", labels=[kind]
            )
            for name in sorted({name for name, what, _ in added if what == measure}):
                family.add_metric(
                    [name], _buckets(added, name, measure), sum_value=added[name, measure, SECONDS]
                )
            yield family

    def _name(self, kind: str, name: str) -> str:
        """The name itself, or OTHER. The first MOST_NAMES names keep their own series."""
        named = self._own_series[kind]
        if name not in named and len(named) >= MOST_NAMES:
            return OTHER
        named.add(name)
        return name


class _ReadyFamilies:
    """Metric families that were made before, as a collector for a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _buckets(sums: Sums, name: str, measure: str) -> list[tuple[str, float]]:
    counts = {
        bucket: jobs
        for (called, what, bucket), jobs in sums.items()
        if called == name and what == measure and bucket != SECONDS
    }
    found = [
        (said, float(sum(jobs for bucket, jobs in counts.items() if bucket <= step)))
        for step, said in BOUNDS
    ]
    return [*found, ("+Inf", float(sum(counts.values())))]
