"""A job in the worker's main process, which alone sees what no child can tell: a timeout, a lost
child.

Celery makes an optimised subclass of this (`create_request_cls`) that replaces `execute_using_pool`
and `on_success`; `on_failure` and `on_timeout` stay ours. A hard timeout calls them both, in this
order, and kills the child after them. Tasks without options of ours go straight on to Celery.

All of them write to the result backend here, in a thread of the process that forks new children,
and just then: a child has died. A child forked amid a transaction on SQLite takes its parent's lock
for its own, for ever ("database is locked" after a minute; one run in four of
tests/worker/test_killed.py). So `sqlite_turn` is held: a fork waits for it.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from celery import signals
from celery.exceptions import Reject, TaskRevokedError, TimeLimitExceeded, WorkerLostError
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
from relevo.job.outcome import CANCELLED_BY_HAND, Failed, Outcome, Retry, decide
from relevo.job.payload import Baton
from relevo.worker.recorded import Recorded, unwrapped

logger = get_logger(__name__)


class Request(Recorded):
    """Celery's request, with our endings for attempts that were killed."""

    #: The main process can release a job of such a request with a new payload (execution/requeue.py).
    releases_jobs = True
    #: The job has been put back: nothing that is still to come may record an end of it.
    settled = False
    #: The job was cancelled while it ran: no attempt follows this one.
    withdrawn = False

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """An attempt ended in an error: raised in the child (`return_ok`, decided there), or the
        child's end itself.
        """
        if return_ok:
            self.fails(exc_info)
            return self.ends(exc_info, send_failed_event, return_ok)
        with sqlite_lock:
            return self.on_death(exc_info, send_failed_event)

    def on_death(self, exc_info: Any, send_failed_event: bool) -> Any:
        if self._already_cancelled and isinstance(unwrapped(exc_info.exception), WorkerLostError):
            return self.go_back_as_it_is()  # killed by us: Celery would call it the job's failure
        error = self.death(exc_info) if self.task.handles_failure else None
        if error is None:
            if not (state.should_terminate or self._already_revoked or self._already_cancelled):
                self.fails(exc_info)
            return self.ends(exc_info, send_failed_event)
        if (
            state.should_terminate
        ):  # a cold shutdown kills children; that says nothing about the job
            return self.go_back_as_it_is()
        return self.settle(error, exc_info)

    def go_back_as_it_is(self) -> None:
        celery_request.task_ready(self)
        self.reject(requeue=True)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft and not state.should_terminate:
            events.emit_for(self, Event.TIMED_OUT, seconds=timeout)
        if soft or not self.settled:
            with sqlite_lock:
                super().on_timeout(soft, timeout)

    def ends(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Let Celery end the job: it acks, which hands the record over. One acked before it ran is
        only recorded.
        """
        ended = super().on_failure(exc_info, send_failed_event, return_ok)
        if self.ending is not None:
            self.hand_over()
        return ended

    def death(self, exc_info: Any) -> BaseException | None:
        """The error a killed attempt ends in, or None when Celery has a word for it (revoked,
        cancelled, succeeded).
        """
        error = unwrapped(exc_info.exception)
        if self._already_revoked or self._already_cancelled:
            return None
        if isinstance(
            error, (SystemExit, KeyboardInterrupt)
        ):  # billiard reports the exit before the child is gone
            return WorkerLostError(f"The worker process exited: {error!r}.")
        lost = isinstance(error, WorkerLostError) and not self._success_was_stored()
        return error if lost or isinstance(error, TimeLimitExceeded) else None

    def settle(self, error: BaseException, exc_info: Any) -> None:
        """Carry out what follows from a killed attempt."""
        baton, outcome = self.verdict(error)
        match outcome:
            case Retry(seconds=seconds):
                wait, noted = (
                    max(seconds, requeue.MIN_DELAY_SECONDS),
                    self.noting(baton.after_error(error), error, exc_info),
                )
                self.put_back(error, exc_info, wait, self._context.retries + 1, noted)
            case Failed() if self.task.failed_hook and baton.verdict is None:
                noted = self.noting(baton.after_error(error), error, exc_info)
                verdict = replace(noted, verdict=failed_hook.serialize_error(self.task, error))
                self.put_back(error, exc_info, 0, self._context.retries, verdict)
            case _:
                self.fails(exc_info)
                self.ends(exc_info)

    def noting(self, baton: Baton, error: BaseException, exc_info: Any) -> Baton:
        return baton.with_error(self._context.retries + 1, error, str(exc_info.traceback))

    def verdict(self, error: BaseException) -> tuple[Baton, Outcome]:
        """What is to be done. A job that was killed while it ran its hook has failed: it doesn't
        come back again.
        """
        baton, options = execute.load_state(self.task, self._context)
        if baton.verdict is not None:
            return baton, Failed(error)
        dice = random.random()  # noqa: S311 - spreads waits, guards nothing
        attempt = self._context.retries + 1
        return baton, decide(
            error, None, attempt=attempt, baton=baton, options=options, now=clock.now(), dice=dice
        )

    def on_retry(self, exc_info: Any) -> None:
        """An attempt ended in a retry or a release: sent by the child (Celery then acks), or to be
        put back here.
        """
        again = requeue.order_of(exc_info.exception)
        self.tell_released(unwrapped(exc_info.exception))
        if again is None:
            super().on_retry(exc_info)
            return
        self.go_back(again.seconds, again.retries, again.baton)
        self.send_event(
            "task-retried", exception=safe_repr(again.exc), traceback=str(exc_info.traceback)
        )

    def tell_released(self, retry: CeleryRetry) -> None:
        if events.has_listeners(Event.RELEASED):
            seconds = getattr(retry, "seconds", retry.when)
            seconds = seconds if isinstance(seconds, (int, float)) else None
            events.emit_for(
                self, Event.RELEASED, error=retry.exc and repr(retry.exc), seconds=seconds
            )

    def go_back(self, seconds: float, retries: int, baton: Mapping[str, Any]) -> None:
        """Put the reserved job back in one step, in place of an ack."""
        if not self.acknowledged:
            self.acknowledged = True
            message = self._message
            message.channel.put_back(
                message, requeue.header_changes(retries, baton), seconds, retries
            )
            if (
                self.withdrawn and not self._context.ignore_result
            ):  # or whoever waits for the result waits for ever
                with sqlite_lock:
                    self.task.backend.store_result(
                        self.id, TaskRevokedError(CANCELLED_BY_HAND), REVOKED, request=self._context
                    )

    def put_back(
        self, error: BaseException, exc_info: Any, seconds: float, retries: int, baton: Baton
    ) -> None:
        """Put the job of a killed attempt back; when it has to be sent and can't be, this delivery
        itself goes back.
        """
        self.settled = True
        celery_request.task_ready(self)
        self.kill_child(error)
        if not requeue.is_leased(self.task, self._context):
            if self.sent_back(seconds, retries, baton):
                self.announce(error, exc_info, seconds)
            return
        try:
            self.announce(
                error, exc_info, seconds
            )  # first, or the next attempt might have its result by then
        finally:
            self.go_back(seconds, retries, baton.header())

    def sent_back(self, seconds: float, retries: int, baton: Baton) -> bool:
        """Publish the job again, then ack this delivery."""
        try:
            requeue.republish(
                self.task, self._context, seconds=seconds, retries=retries, baton=baton
            )
        except Reject as refused:
            logger.exception("%s[%s] could not be put back", self.name, self.id)
            self.reject(requeue=refused.requeue)
            return False
        self.acknowledge()
        return True

    def kill_child(self, error: BaseException) -> None:
        """End a timed out child now: billiard does so only after this, and the next attempt might
        start before.
        """
        if isinstance(error, TimeLimitExceeded) and self.worker_pid not in (None, os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(self.worker_pid, signal.SIGKILL)

    def announce(self, error: BaseException, exc_info: Any, seconds: float) -> None:
        """Tell the result backend, the event listeners and the signal's receivers of the retry, as
        Celery does.
        """
        reason = CeleryRetry(exc=error, when=seconds)
        self.tell_released(reason)
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
