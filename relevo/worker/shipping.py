"""The short way of a job through the main process: reserved, shipped as it is, recorded, acked.

    fetcher -> ship: its raw payload, in a group with others -> a child -> ended: its record -> ack
                                                               |  failed, lost, late, asked for
                                                               v
                                                       a request (`promote`), as on the long way

No message and no request is made for a job that somebody neither looks at nor has to decide on. A
job goes the long way from the start where somebody does look: receivers of `task_received`, event
listeners, permits, cancelled batches, a revoked id, a task with a request class of its own.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from celery import current_app, signals
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import create_request_cls
from kombu.utils.imports import symbol_by_name

from relevo import events
from relevo.drivers import message_codec
from relevo.drivers.contract import ReservedJob
from relevo.events import Event
from relevo.execution import shipped
from relevo.job.membership import MEMBER_HEADER
from relevo.transport.admission import Admission
from relevo.transport.context import current
from relevo.worker.pool.processes import Processes
from relevo.worker.pool.work import Work

logger = get_logger(__name__)

_LOOKED_AT = (
    Event.RESERVED, Event.RESCUED, Event.PROCESSING, Event.PROCESSED, Event.CANCELLED,
)  # fmt: skip
# In the payload of a job that something else has to be looked up for before it starts.
_MARKS = (MEMBER_HEADER, '"until":"start"', '"stamped_headers":[', '"relevo_chord"')


class ShippedJob:
    """One job on the short way. It hears of its end from the pool."""

    __slots__ = ("__weakref__", "channel", "job", "request", "shipper", "work")

    def __init__(self, shipper: Shipper, channel: Any, job: ReservedJob) -> None:
        self.shipper, self.channel, self.job = shipper, channel, job
        self.request: Any = None
        self.work: Work | None = None

    def on_ended(self, answer: shipped.Ran | shipped.Long) -> None:
        """A child has answered."""
        if isinstance(answer, shipped.Long):
            self.shipper.send_long_way(self, answer.task)
        elif self.request is None and answer.failure is None:
            self.shipper.record(self, answer)
        elif (request := self.promote()) is not None:
            request.captured = answer.results
            failed = answer.failure is not None
            value = answer.failure if failed else answer.returned
            request.on_success((int(failed), value, answer.seconds))

    def on_failed(self, exc_info: Any) -> None:
        """The child has died, or the job's time was over."""
        if (request := self.promote()) is not None:
            request.on_failure(exc_info)

    def on_accepted(self, pid: int, since: float) -> None:
        """A child has started it; only told when somebody asks."""
        if self.request is not None:
            self.request.on_accepted(pid, since)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if (request := self.promote()) is not None:
            request.on_timeout(soft, timeout)

    def promote(self) -> Any:
        """The request of this job, made now. None if its payload can't be read."""
        if self.request is None:
            message = self.channel.make_message(self.job)
            if message is None:
                return None
            self.request = self.shipper.make_request(message)
            self.channel.qos.append(message, message.delivery_tag)
            state.task_reserved(self.request)
            work = self.work
            if work is not None:
                self.request._apply_result = weakref.ref(work)  # noqa: SLF001  Celery's own
                if work.is_accepted:
                    self.request.on_accepted(work.pid, work.since)
        return self.request

    def release_unstarted(self) -> None:
        """It has not been started, and never will be here."""
        if self.request is not None:
            self.request.release_unstarted()
        else:
            self.channel.qos.reject(self.job.lease.token, requeue=True)


class Shipper:
    """The short way of one worker. Used by the consuming thread, but for the ends of jobs."""

    def __init__(self, consumer: Any, processes: Processes) -> None:
        self._consumer, self._processes = consumer, processes
        self._app, self._hostname = consumer.app, consumer.hostname
        self._going: list[Work] = []
        self._long: deque[ShippedJob] = deque()
        self._long_tasks: set[str] = set()
        self._request_classes: dict[str, Any] = {}

    def is_open(self, channel: Any) -> bool:
        """Whether jobs may take the short way now: nobody looks at each of them."""
        return (
            current().recorder is not None
            and not _sends_task_events(self._consumer.event_dispatcher)
            and not signals.task_received.receivers
            and type(channel.keeper.admission) is Admission
            and not state.revoked_stamps
            and not any(events.has_listeners(event) for event in _LOOKED_AT)
        )

    def ship(self, channel: Any, job: ReservedJob) -> bool:
        """Take a job, unless it has to go the long way. Sent with the next `flush`."""
        if job.rescues or job.id in state.revoked or any(mark in job.payload for mark in _MARKS):
            return False
        if (
            self._long_tasks
            and message_codec.headers_of(job.payload).get("task") in self._long_tasks
        ):
            return False
        each = ShippedJob(self, channel, job)
        work = Work(shipped_run, ((job, None, self._hostname), {}))
        each.work = work
        work.on_ended, work.on_failed = each.on_ended, each.on_failed
        work.on_accepted, work.on_timeout = each.on_accepted, each.on_timeout
        channel.qos.append(each, job.lease.token)
        self._going.append(work)
        return True

    def flush(self) -> None:
        """Send what was taken, in groups."""
        if self._going:
            going, self._going = self._going, []
            self._processes.send_all(going)

    def take_long_way(self) -> list[ShippedJob]:
        """The jobs that children have sent back, to go the long way."""
        found = list(self._long)
        self._long.clear()
        return found

    def go_long(self, task: str) -> None:
        """Jobs of this task go the long way from now on."""
        self._long_tasks.add(task)

    def send_long_way(self, each: ShippedJob, task: str | None) -> None:
        if task is not None and task in self._app.tasks:
            self._long_tasks.add(task)
        self._long.append(each)
        each.channel.waker.ring()

    def record(self, each: ShippedJob, ran: shipped.Ran) -> None:
        """A job has returned: record it, then ack it."""
        token, channel, recorder = each.job.lease.token, each.channel, current().recorder
        state.all_total_count[0] += 1
        state.total_count.update({ran.task: 1})
        channel.keeper.admission.body_ended(token)
        if recorder is None or ran.ending is None:
            channel.qos.ack(token)
            return
        if not recorder.is_full:
            channel.qos.forget(token)
        recorder.add(ran.ending, channel.ack_tokens, token)

    def make_request(self, message: Any) -> Any:
        """A request of a message, as Celery's strategy makes it."""
        name = message.headers["task"]
        task = self._app.tasks[name]
        if name not in self._request_classes:
            self._request_classes[name] = create_request_cls(
                symbol_by_name(task.Request),
                task,
                self._consumer.pool,
                self._hostname,
                self._consumer.event_dispatcher,
                app=self._app,
            )
        return self._request_classes[name](
            message,
            on_ack=message.ack_log_error,
            on_reject=message.reject_log_error,
            app=self._app,
            hostname=self._hostname,
            eventer=self._consumer.event_dispatcher,
            task=task,
            connection_errors=self._consumer.connection_errors,
            body=message.body,
            headers=message.headers,
            decoded=False,
            utc=self._app.uses_utc_timezone(),
        )

    def promote_all(self) -> None:
        """Make requests of all jobs on the short way: somebody asks for them."""
        with self._processes.held() as works:
            for work in works:
                if isinstance(owner := work.owner, ShippedJob):
                    owner.promote()


def _sends_task_events(dispatcher: Any) -> bool:
    """Whether this worker sends events of jobs, as with `-E`; those of workers are others."""
    return (
        dispatcher is not None
        and dispatcher.enabled
        and (not dispatcher.groups or "task" in dispatcher.groups)
    )


def shipped_run(job: ReservedJob, permit: str | None, hostname: str) -> Any:
    """What a child calls."""
    from relevo.worker.pool import child  # noqa: PLC0415  in the child

    app = current_app._get_current_object()  # noqa: SLF001  Celery's own way
    return shipped.run(app, job, permit, hostname, child.limit)
