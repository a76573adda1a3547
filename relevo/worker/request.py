"""The request: one delivery of a job in the worker's main process.

Celery calls it at every turn of an attempt. Only the main process sees a timeout or a lost child,
and a request decides only about these (`killed_by`, `outcome_of`).

    accepted -> returned                  -> on_success -> record, then ack
             -> raised in the child       -> on_failure -> record, then ack
             -> retry or release          -> on_retry   -> released changed, in one step
             -> timeout, or child killed  -> on_timeout, on_failure -> released, or record, then ack

**Record, then ack.** `acknowledge` and `reject` wait for the record; the job's place doesn't.

**Celery's subclasses**, one for each task (`create_request_cls`), replace `execute_using_pool` and
`on_success`; `__init_subclass__` wraps both. A hard timeout calls `on_failure`, then `on_timeout`.

**Why `sqlite_lock`.** A child forked amid a write to SQLite keeps the file locked: forks wait.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import Terminated
from celery import signals
from celery.exceptions import Ignore, Reject, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from celery.exceptions import Retry as CeleryRetry
from celery.states import REVOKED
from celery.utils.log import get_logger
from celery.worker import request as celery_request
from celery.worker import state
from kombu.utils.encoding import safe_repr

from relevo import clock, events
from relevo.database.engine import sqlite_lock
from relevo.events import Event
from relevo.execution import attempt as execute
from relevo.execution import failed_hook, requeue
from relevo.job import error_report
from relevo.job.control_flow import ContinuedRun, Replaced
from relevo.job.membership import MEMBER_HEADER
from relevo.job.outcome import CANCELLED_BY_HAND, Failed, Outcome, Retry, decide
from relevo.job.payload import Baton
from relevo.recording import endings, results
from relevo.recording.results import CapturedResult
from relevo.store.outcomes import Ending
from relevo.transport.context import OutcomeRecorder, current
from relevo.worker import cancelled_batches, cold_shutdown

logger = get_logger(__name__)


class Request(celery_request.Request):
    """Celery's request, acked after its record, whose killed attempts end by our rules."""

    acknowledged: bool
    #: How the job ended, until this is handed to the recorder.
    ending: Ending | None = None
    #: The main process can release such a request with a new payload (execution/requeue.py).
    releases_jobs = True
    #: The job has been released: nothing that comes later may record an end of it.
    is_requeued = False
    captured: tuple[CapturedResult, ...] = ()  # results, until they go to the recorder
    #: The job was cancelled while it ran: no attempt follows this one.
    is_cancelled = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap the methods that Celery writes for each task's own subclass."""
        super().__init_subclass__(**kwargs)
        if "on_success" in cls.__dict__:
            cls.on_success = _record_success(cls.on_success)
        if "execute_using_pool" in cls.__dict__:
            cls.execute_using_pool = _skip_cancelled_members(cls.execute_using_pool)

    # --- acked after the record -------------------------------------------------------------------
    def acknowledge(self) -> None:
        """Ack the delivery: after the record, if there is something to record."""
        if self.ending is None or not self.submit_record():
            super().acknowledge()

    def reject(self, requeue: bool = False) -> None:
        """Release the job (`requeue`), or end it as a dead letter, after the record."""
        if requeue:
            self.ending = None
        if self.ending is None or not self.submit_record():
            super().reject(requeue)

    def release_unstarted(self) -> None:
        """Release the job, which has not started."""
        self.reject(requeue=True)
        celery_request.task_ready(self)

    def submit_record(self) -> bool:
        """Have the ending recorded, and acked then. Returns False if the caller must ack it now."""
        ending, self.ending = self.ending, None
        recorder = current().recorder
        if recorder is None or ending is None:
            return False
        if self.captured:
            ending, self.captured = replace(ending, results=self.captured), ()
        message = self._message
        if self.acknowledged:  # before it ran
            recorder.add(ending, lambda _items: None)
            return True
        if hasattr(message, "job"):
            self.acknowledged = True
            if not recorder.is_full:  # else the recorder can't keep up, and no more jobs are taken
                message.channel.free_place(message)
            recorder.add(ending, message.channel.ack_recorded, message)
            return True
        # the channel of another broker can't be used by the recorder's thread
        return not self._record_now(recorder, ending)

    def _record_now(self, recorder: OutcomeRecorder, ending: Ending) -> bool:
        try:
            recorder.write([ending])
        except Exception:
            logger.exception("%s[%s] could not be recorded and is released", self.name, self.id)
            super().reject(requeue=True)
            return False
        return True

    # --- accepted, failed, revoked ----------------------------------------------------------------
    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """A child has started the attempt. During a cold stop it is killed."""
        super().on_accepted(pid, time_accepted)
        pool = current().pool
        if cold_shutdown.is_requested() and pool is not None and not self._already_cancelled:
            self.cancel(pool, emit_retry=not self.task.acks_late)
        if events.has_listeners(Event.PROCESSING):
            events.emit_for(self, Event.PROCESSING)

    def note_failure(self, exc_info: Any) -> None:
        """Prepare the record of an error, if it means that the job has failed for good."""
        error = unwrap(exc_info.exception)
        goes_back = isinstance(error, Reject) and error.requeue
        if goes_back or isinstance(error, (CeleryRetry, Ignore, Terminated)):
            if (
                isinstance(error, Ignore)
                and not isinstance(error, Reject)
                and current().recorder is not None
            ):
                self.ending = self._ending_of_ignored(error)
            return
        if events.has_listeners(Event.FAILED):
            text = f"{error_report.type_name(error)}: {error_report.message(error)}"
            events.emit_for(self, Event.FAILED, error=text)
        if current().recorder is not None:
            try:
                self.ending = endings.for_failure(self, error, str(exc_info.traceback))
            except Exception:
                logger.exception("%s[%s] failed, and can't be recorded", self.name, self.id)

    def _ending_of_ignored(self, error: Ignore) -> Ending | None:
        if isinstance(error, ContinuedRun):
            return None  # the run ends with the job that continues it
        if isinstance(error, Replaced):
            return endings.for_replacement(self)
        return endings.for_ignore(self)

    def _announce_revoked(self, reason: str, *rest: Any) -> None:
        events.emit_for(self, Event.CANCELLED, error=reason)
        if current().recorder is not None:
            self.ending = endings.for_cancellation(self, reason)
        super()._announce_revoked(reason, *rest)

    def _retry_worker_lost(self, exc: Any, exc_info: Any) -> bool:
        """Celery's `task_retry_on_worker_lost`: the job goes on, unless it can't be sent."""
        ending, self.ending = self.ending, None
        sent = bool(super()._retry_worker_lost(exc, exc_info))
        self.ending = None if sent else ending
        return sent

    def _success_was_stored(self) -> Any:
        stored = super()._success_was_stored()
        if stored:
            self.ending = None
        return stored

    # --- the attempt raised, or was killed --------------------------------------------------------
    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """An attempt raised (`return_ok`: the child has decided what follows), or was killed."""
        if return_ok:
            self.note_failure(exc_info)
            return self.finish(exc_info, send_failed_event, return_ok)
        with sqlite_lock:
            return self.on_child_lost(exc_info, send_failed_event)

    def on_child_lost(self, exc_info: Any, send_failed_event: bool) -> Any:
        """The child has ended with the attempt, or the main process has ended the attempt."""
        if self._already_cancelled and isinstance(unwrap(exc_info.exception), WorkerLostError):
            return self.release_unchanged()  # killed by us; Celery would call it the job's failure
        error = self.killed_by(exc_info) if self.task.handles_failure else None
        if error is None:
            if not (state.should_terminate or self._already_revoked or self._already_cancelled):
                self.note_failure(exc_info)
            return self.finish(exc_info, send_failed_event)
        # a cold stop kills children; that says nothing about the job
        if state.should_terminate:
            return self.release_unchanged()
        return self.apply_kill(error, exc_info)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The attempt has run for too long."""
        if not soft and not state.should_terminate:
            events.emit_for(self, Event.TIMED_OUT, seconds=timeout)
        if soft or not self.is_requeued:
            with sqlite_lock:
                super().on_timeout(soft, timeout)

    def finish(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Let Celery end and ack the job, which submits the record.

        A job that was acked before it ran is only recorded.
        """
        ended = super().on_failure(exc_info, send_failed_event, return_ok)
        if self.ending is not None:
            self.submit_record()
        return ended

    def killed_by(self, exc_info: Any) -> BaseException | None:
        """Return the error of a killed attempt; None if it was revoked, cancelled or successful."""
        error = unwrap(exc_info.exception)
        if self._already_revoked or self._already_cancelled:
            return None
        # billiard reports the exit before the child is gone
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            return WorkerLostError(f"The worker process exited: {error!r}.")
        lost = isinstance(error, WorkerLostError) and not self._success_was_stored()
        return error if lost or isinstance(error, TimeLimitExceeded) else None

    def apply_kill(self, error: BaseException, exc_info: Any) -> None:
        """Carry out what follows from a killed attempt."""
        baton, outcome = self.outcome_of(error)
        match outcome:
            case Retry(seconds=seconds):
                noted = self.with_error(baton.after_error(error), error, exc_info)
                wait = max(seconds, requeue.MIN_DELAY_SECONDS)
                self.release_killed(error, exc_info, wait, self._context.retries + 1, noted)
            case Failed() if self.task.failed_hook and baton.verdict is None:
                noted = self.with_error(baton.after_error(error), error, exc_info)
                verdict = replace(noted, verdict=failed_hook.serialize_error(self.task, error))
                self.release_killed(error, exc_info, 0, self._context.retries, verdict)
            case _:
                self.note_failure(exc_info)
                self.finish(exc_info)

    def with_error(self, baton: Baton, error: BaseException, exc_info: Any) -> Baton:
        """Return the baton with the error of this attempt."""
        return baton.with_error(self._context.retries + 1, error, str(exc_info.traceback))

    def outcome_of(self, error: BaseException) -> tuple[Baton, Outcome]:
        """Decide what follows from a killed attempt."""
        baton, options = execute.load_state(self.task, self._context)
        if baton.verdict is not None:  # killed while its failed hook ran: it isn't released again
            return baton, Failed(error)
        dice = random.random()  # noqa: S311 - spreads waits, guards nothing
        attempt = self._context.retries + 1
        return baton, decide(
            error, None, attempt=attempt, baton=baton, options=options, now=clock.now(), dice=dice
        )

    # --- released ---------------------------------------------------------------------------------
    def on_retry(self, exc_info: Any) -> None:
        """An attempt ended in a retry or a release: release the job, unless the child sent it."""
        order = requeue.order_of(exc_info.exception)
        events.emit_released(self, unwrap(exc_info.exception))
        if order is None:
            super().on_retry(exc_info)
            return
        self.release(order.seconds, order.retries, order.baton)
        self.send_event(
            "task-retried", exception=safe_repr(order.exc), traceback=str(exc_info.traceback)
        )

    def release_unchanged(self) -> None:
        """Release the job as it came."""
        celery_request.task_ready(self)
        self.reject(requeue=True)

    def release(self, seconds: float, retries: int, baton: Mapping[str, Any]) -> None:
        """Release the job with a new baton, in one step, instead of an ack."""
        if not self.acknowledged:
            self.acknowledged = True
            message = self._message
            headers = requeue.header_changes(retries, baton)
            message.channel.release(message, headers, seconds, retries)
            # without a result, its caller would wait for ever
            if self.is_cancelled and not self._context.ignore_result:
                with sqlite_lock:
                    self.task.backend.store_result(
                        self.id, TaskRevokedError(CANCELLED_BY_HAND), REVOKED, request=self._context
                    )

    def release_killed(
        self, error: BaseException, exc_info: Any, seconds: float, retries: int, baton: Baton
    ) -> None:
        """Release the job of a killed attempt; unchanged, if it can't be published again."""
        self.is_requeued = True
        celery_request.task_ready(self)
        self.kill_child(error)
        if not requeue.is_leased(self.task, self._context):
            if self.publish_again(seconds, retries, baton):
                self.announce_retry(error, exc_info, seconds)
            return
        try:
            # first, or the next attempt might have its result by then
            self.announce_retry(error, exc_info, seconds)
        finally:
            self.release(seconds, retries, baton.header())

    def publish_again(self, seconds: float, retries: int, baton: Baton) -> bool:
        """Publish the job again, then ack this delivery. Returns whether it was published."""
        try:
            requeue.republish(
                self.task, self._context, seconds=seconds, retries=retries, baton=baton
            )
        except Reject as refused:
            logger.exception("%s[%s] could not be published again", self.name, self.id)
            self.reject(requeue=refused.requeue)
            return False
        self.acknowledge()
        return True

    def kill_child(self, error: BaseException) -> None:
        """Kill a timed out child now: billiard does it later, when the next attempt may run."""
        if isinstance(error, TimeLimitExceeded) and self.worker_pid not in (None, os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(self.worker_pid, signal.SIGKILL)

    def announce_retry(self, error: BaseException, exc_info: Any, seconds: float) -> None:
        """Tell the result backend, the listeners and the signal's receivers, as Celery does."""
        reason = CeleryRetry(exc=error, when=seconds)
        events.emit_released(self, reason)
        logger.warning(
            "Task %s[%s] was killed (%r), %s", self.name, self.id, error, reason.humanize()
        )
        if self.store_errors:
            self.task.backend.mark_as_retry(
                self.id, error, exc_info.traceback, request=self._context
            )
        self.send_event("task-retried", exception=repr(error), traceback=exc_info.traceback)
        self.task.request_stack.push(self._context)
        try:
            self.task.on_retry(error, self.id, self.args, self.kwargs, exc_info)
            signals.task_retry.send(self.task, request=self._context, reason=reason, einfo=exc_info)
        finally:
            self.task.request_stack.pop()


def _record_success(on_success: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `on_success`: the job has returned; record it before Celery acks."""

    def record_success(self: Request, outcome: tuple[Any, ...], **options: Any) -> Any:
        message = self._message
        if hasattr(message, "job"):
            message.channel.keeper.admission.body_ended(message.delivery_tag)
        failed, result, ran, *captured = outcome
        if captured:
            self.captured = captured[0]
        if not failed:
            if current().recorder is not None:
                self.ending = endings.for_return(self, result, ran)
            if self.ending is None and self.captured:
                self.ending = Ending(listed=False)
            events.emit_returned(self, result, ran)
        ended = on_success(self, (failed, result, ran), **options)
        if self.ending is not None:  # acked before it ran
            self.submit_record()
        if self.captured:  # a result that the job has stored itself, before it raised Ignore
            results.keep(self.captured, self.task.backend, current().recorder)
        return ended

    return record_success


def _skip_cancelled_members(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `execute_using_pool`: a member of a cancelled batch or chord ends before it starts."""

    def execute_using_pool(self: Request, pool: Any, **options: Any) -> Any:
        is_member = MEMBER_HEADER in self.request_dict or self.request_dict.get("group")
        if is_member and current().is_cancelled_member(self):
            self._announce_revoked(cancelled_batches.REASON, False, None, False)
            raise TaskRevokedError(self.id)
        return execute(self, pool, **options)

    return execute_using_pool


def unwrap(error: Any) -> Any:
    """Return an error as it was before it crossed from one process to the other."""
    return error.exc if isinstance(error, ExceptionWithTraceback) else error
