"""Which address is which page: (pattern, handler, name). Names that begin with /workers or /tasks
are Flower's.
"""

from __future__ import annotations

from typing import Any

from flower.api.tasks import GetQueueLengths
from flower.views.broker import BrokerView

from relevo.dashboard.access import guarded
from relevo.dashboard.flower_broker import Broker, is_ours
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
from relevo.dashboard.pages.pauses import AddPause, Lift, Pause, PausesPage, Resume
from relevo.dashboard.pages.schedule import (
    EntryPage,
    PauseEntry,
    ResumeEntry,
    RunEntry,
    SchedulePage,
)
from relevo.dashboard.pages.tags import TagsPage, Unwatch, Watch
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
    ("/tags/watch", Watch, "watch"),
    ("/tags/unwatch", Unwatch, "unwatch"),
    ("/pauses", PausesPage, "pauses"),
    ("/queues/pause", Pause, "pause"),
    ("/queues/resume", Resume, "resume"),
    ("/pauses/add", AddPause, "add_pause"),
    ("/pauses/lift", Lift, "lift"),
    ("/schedule", SchedulePage, "schedule"),
    ("/schedule/entry", EntryPage, "entry"),
    ("/schedule/run", RunEntry, "run_entry"),
    ("/schedule/pause", PauseEntry, "pause_entry"),
    ("/schedule/resume", ResumeEntry, "resume_entry"),
    ("/audit", AuditPage, "audit"),
    ("/metrics/relevo", PrometheusPage, None),
]


class OurBroker:
    """For Flower's handlers that look at the broker."""

    application: Any

    def get_broker(self) -> Broker:
        """Flower's name for it."""
        return Broker(self.application.capp, self.application.workers)


class QueuesPage(OurBroker, guarded(BrokerView)):  # type: ignore[misc]
    """/broker."""


class QueuesAPI(OurBroker, guarded(GetQueueLengths)):  # type: ignore[misc]
    """/api/queues/length."""


def broker(app: Any) -> list[Route]:
    """Flower's pages of the broker, where it is one of our drivers."""
    if not is_ours(app):
        return []
    return [("/broker", QueuesPage, "broker"), ("/api/queues/length", QueuesAPI, None)]
