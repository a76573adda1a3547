"""A request whose ack waits for its record: the place in the job is free at once, the lease goes
when it is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import Terminated
from celery.exceptions import Ignore, Reject, Retry, TaskRevokedError
from celery.utils.log import get_logger
from celery.worker import request as celery_request

from relevo import events
from relevo.events import Event
from relevo.job import error_report
from relevo.job.control_flow import ContinuedRun, Replaced
from relevo.job.membership import MEMBER_HEADER
from relevo.job.outcome import cancel_reason
from relevo.recording import endings, recorder
from relevo.store.outcomes import Ending
from relevo.transport import qos
from relevo.worker import cancelled_batches, cold_shutdown

logger = get_logger(__name__)


class Recorded(celery_request.Request):
    """Celery's request with the two words that end a delivery, ack and reject, after the record."""

    acknowledged: bool
    #: What became of the job, until it is handed to the recorder.
    ending: Ending | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Celery makes an optimised subclass for each task, with an `on_success` of its own: ours
        goes around it.
        """
        super().__init_subclass__(**kwargs)
        if "on_success" in cls.__dict__:
            cls.on_success = _noting(cls.on_success)
        if "execute_using_pool" in cls.__dict__:
            cls.execute_using_pool = _dropping(cls.execute_using_pool)

    def acknowledge(self) -> None:
        if self.ending is None or not self.hand_over():
            super().acknowledge()

    def reject(self, requeue: bool = False) -> None:
        if requeue:
            self.ending = None
        if self.ending is None or not self.hand_over():
            super().reject(requeue)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        if cold_shutdown.is_asked() and qos.pool is not None and not self._already_cancelled:
            self.cancel(qos.pool, emit_retry=not self.task.acks_late)
        if events.has_listeners(Event.PROCESSING):
            events.emit_for(self, Event.PROCESSING)

    def fails(self, exc_info: Any) -> None:
        """Note that the job has failed for good, if this is what that means."""
        error = unwrapped(exc_info.exception)
        again = isinstance(error, Reject) and error.requeue
        if again or isinstance(error, (Retry, Ignore, Terminated)):
            if (
                isinstance(error, Ignore)
                and not isinstance(error, Reject)
                and recorder.current() is not None
            ):
                self.ending = self._ended_by(error)
            return
        if events.has_listeners(Event.FAILED):
            events.emit_for(
                self,
                Event.FAILED,
                error=f"{error_report.type_name(error)}: {error_report.message(error)}",
            )
        if recorder.current() is not None:
            self._note_failure(error, exc_info)

    def _ended_by(self, error: Ignore) -> Ending | None:
        if isinstance(error, ContinuedRun):
            return None  # its run ends with what goes on
        return (
            endings.for_replacement(self)
            if isinstance(error, Replaced)
            else endings.for_ignore(self)
        )

    def _note_failure(self, error: BaseException, exc_info: Any) -> None:
        try:
            self.ending = endings.for_failure(self, error, str(exc_info.traceback))
        except Exception:
            logger.exception("%s[%s] failed, and no record can be made of it", self.name, self.id)

    def hand_over(self) -> bool:
        """Have the ending recorded, and this delivery acked then. Returns False when it is to be
        acked now.
        """
        ending, self.ending = self.ending, None
        recording = recorder.current()
        if recording is None or ending is None:
            return False
        message = self._message
        if self.acknowledged:  # before it ran
            recording.add(ending, nothing)
            return True
        if hasattr(message, "job"):
            self.acknowledged = True
            message.channel.finish(message, free=not recording.is_full)
            recording.add(ending, message.channel.finished, message)
            return True
        return not self._written(
            recording, ending
        )  # another broker's channel isn't for other threads

    def tell_returned(self, result: Any, ran: float | None) -> None:
        reason = cancel_reason(result)
        if reason is None:
            events.emit_for(self, Event.PROCESSED, seconds=ran)
        else:
            events.emit_for(self, Event.CANCELLED, error=reason)

    def _announce_revoked(self, reason: str, *rest: Any) -> None:
        events.emit_for(self, Event.CANCELLED, error=reason)
        if recorder.current() is not None:
            self.ending = endings.for_cancellation(self, reason)
        super()._announce_revoked(reason, *rest)

    def _written(self, recording: recorder.Recorder, ending: Ending) -> bool:
        try:
            recording.write([ending])
        except Exception:
            logger.exception("%s[%s] could not be recorded and goes back", self.name, self.id)
            super().reject(requeue=True)
            return False
        return True

    def _retry_worker_lost(self, exc: Any, exc_info: Any) -> bool:
        """Celery's setting `task_retry_on_worker_lost`: the job goes on, unless it can't be sent."""
        ending, self.ending = self.ending, None
        sent = bool(super()._retry_worker_lost(exc, exc_info))
        self.ending = None if sent else ending
        return sent

    def _success_was_stored(self) -> Any:
        stored = super()._success_was_stored()
        if stored:
            self.ending = None
        return stored


def _noting(on_success: Callable[..., Any]) -> Callable[..., Any]:
    def noting(self: Recorded, outcome: tuple[bool, Any, float | None], **options: Any) -> Any:
        message = self._message
        if hasattr(message, "job"):
            message.channel.ledger.gate.ended(message.delivery_tag)
        if not outcome[0]:
            if recorder.current() is not None:
                self.ending = endings.for_return(self, outcome[1], outcome[2])
            if events.has_listeners(Event.PROCESSED) or events.has_listeners(Event.CANCELLED):
                self.tell_returned(outcome[1], outcome[2])
        ended = on_success(self, outcome, **options)
        if self.ending is not None:  # acked before it ran
            self.hand_over()
        return ended

    return noting


def _dropping(execute: Callable[..., Any]) -> Callable[..., Any]:
    """A member of a batch or chord that was cancelled ends here, before it has started."""

    def execute_using_pool(self: Recorded, pool: Any, **options: Any) -> Any:
        if (
            MEMBER_HEADER in self.request_dict or self.request_dict.get("group")
        ) and cancelled_batches.is_dropped(self):
            self._announce_revoked(cancelled_batches.REASON, False, None, False)
            raise TaskRevokedError(self.id)
        return execute(self, pool, **options)

    return execute_using_pool


def unwrapped(error: Any) -> Any:
    """An error as it was before it crossed from one process to the other."""
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def nothing(_items: list[Any]) -> None:
    """There is nothing left to do."""
