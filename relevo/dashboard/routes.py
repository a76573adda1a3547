"""The routes of Relevo's pages and actions: (pattern, handler, name)."""

from __future__ import annotations

from typing import Any

from flower.api.tasks import GetQueueLengths
from flower.views.broker import BrokerView

from relevo.dashboard.access import guard_handler
from relevo.dashboard.flower_broker import Broker, uses_relevo_driver
from relevo.dashboard.pages.audit import AuditPage
from relevo.dashboard.pages.batches import BatchesPage, BatchPage, CancelBatch, RetryBatch
from relevo.dashboard.pages.failed import EditFailed, FailedPage, ForgetFailed, RetryFailed
from relevo.dashboard.pages.job import JobPage
from relevo.dashboard.pages.job_actions import (
    CancelJobs,
    ClearQueue,
    DeleteJobs,
    HastenJobs,
    StopJobs,
)
from relevo.dashboard.pages.jobs import JobsPage
from relevo.dashboard.pages.limits import ClearLimit, LimitsPage, SetRate
from relevo.dashboard.pages.metrics import MetricsPage
from relevo.dashboard.pages.overview import OverviewPage
from relevo.dashboard.pages.pauses import AddPause, LiftPause, PauseQueue, PausesPage, ResumeQueue
from relevo.dashboard.pages.schedule import (
    EntryPage,
    PauseEntry,
    ResumeEntry,
    RunEntry,
    SchedulePage,
)
from relevo.dashboard.pages.tags import TagsPage, UnwatchTag, WatchTag
from relevo.dashboard.prometheus import PrometheusPage

Route = tuple[str, Any, str | None]

PAGES: list[Route] = [
    ("/overview", OverviewPage, "overview"),
    ("/jobs", JobsPage, "jobs"),
    ("/jobs/cancel", CancelJobs, "cancel"),
    ("/jobs/delete", DeleteJobs, "delete"),
    ("/jobs/hasten", HastenJobs, "hasten"),
    ("/jobs/stop", StopJobs, "stop"),
    ("/job/(.+)", JobPage, "job"),
    ("/failed", FailedPage, "failed"),
    ("/failed/retry", RetryFailed, "retry"),
    ("/failed/forget", ForgetFailed, "forget"),
    ("/failed/([0-9]{1,18})/edit", EditFailed, "edit"),
    ("/queues/clear", ClearQueue, "clear"),
    ("/batches", BatchesPage, "batches"),
    ("/batch/([^/]+)", BatchPage, "batch"),
    ("/batch/([^/]+)/cancel", CancelBatch, "cancel_batch"),
    ("/batch/([^/]+)/retry", RetryBatch, "retry_batch"),
    ("/limits", LimitsPage, "limits"),
    ("/limits/rate", SetRate, "set_rate"),
    ("/limits/clear", ClearLimit, "clear_limit"),
    ("/charts", MetricsPage, "metrics_page"),
    ("/tags", TagsPage, "tags"),
    ("/tags/watch", WatchTag, "watch"),
    ("/tags/unwatch", UnwatchTag, "unwatch"),
    ("/pauses", PausesPage, "pauses"),
    ("/queues/pause", PauseQueue, "pause"),
    ("/queues/resume", ResumeQueue, "resume"),
    ("/pauses/add", AddPause, "add_pause"),
    ("/pauses/lift", LiftPause, "lift"),
    ("/schedule", SchedulePage, "schedule"),
    ("/schedule/entry", EntryPage, "entry"),
    ("/schedule/run", RunEntry, "run_entry"),
    ("/schedule/pause", PauseEntry, "pause_entry"),
    ("/schedule/resume", ResumeEntry, "resume_entry"),
    ("/audit", AuditPage, "audit"),
    ("/metrics/relevo", PrometheusPage, None),
]


class BrokerHandler:
    """Gives Flower's handlers Relevo's view of the broker."""

    application: Any

    def get_broker(self) -> Broker:
        """Flower calls this method."""
        return Broker(self.application.capp, self.application.workers)


class QueuesPage(BrokerHandler, guard_handler(BrokerView)):  # type: ignore[misc]
    """/broker."""


class QueuesAPI(BrokerHandler, guard_handler(GetQueueLengths)):  # type: ignore[misc]
    """/api/queues/length."""


def broker(app: Any) -> list[Route]:
    """Flower's pages of the broker, if the app uses one of Relevo's drivers."""
    if not uses_relevo_driver(app):
        return []
    return [("/broker", QueuesPage, "broker"), ("/api/queues/length", QueuesAPI, None)]
