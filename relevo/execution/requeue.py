"""Releases a job for another attempt: the same job, the same id, a new baton.

    pool process   raises ReleaseRetry(seconds, retries, baton) -> Celery marks RETRY
    main process   Request.on_retry -> channel -> the driver's `release`, one call with the new
                   payload, the delay and the count

On our drivers nothing is published. The main process changes the reserved job in one atomic step,
so a crash at any instant leaves one copy: the old one (its lease ends, and the attempt runs again)
or the new one. While the broker is away the lease is renewed, and the release follows later.

On other brokers (Celery's memory, SQS), and for a task that acks before it runs, a copy is
published and the original acked afterwards: a crash between the two leaves two copies, never none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import Reject
from celery.exceptions import Retry as CeleryRetry
from kombu.utils.imports import symbol_by_name

from relevo import clock
from relevo.drivers.message_codec import LEASED
from relevo.job.payload import HEADER, Baton, baton_of
from relevo.job.task_protocol import TaskLike

# The shortest delay. Without one a released job keeps its place at the head of the queue, and a job
# that is released again and again would let no other run.
MIN_DELAY_SECONDS = 0.001

# Options of Celery's `retry` that don't change the message.
_SAME_MESSAGE = frozenset({"exc", "countdown", "eta", "max_retries"})


class ReleaseRetry(CeleryRetry):
    """Celery's Retry as an order to the main process: release the job. Nothing is sent yet.

    `seconds`: until the next attempt. `retries`, `baton`: the new headers.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: Any = None,
        seconds: float = 0,
        retries: int = 0,
        baton: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, exc, when)
        self.seconds, self.retries, self.baton = seconds, retries, dict(baton or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (
            self.message,
            self.exc,
            self.when,
            self.seconds,
            self.retries,
            self.baton,
        )


def order_of(error: Any) -> ReleaseRetry | None:
    """The order to release the job in the error of an attempt; None for any other error."""
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    return error if isinstance(error, ReleaseRetry) else None


def header_changes(retries: int, baton: Mapping[str, Any]) -> dict[str, Any]:
    """The new headers of a released job."""
    return {"retries": retries, **({HEADER: dict(baton)} if baton else {})}


def is_leased(task: TaskLike, request: Any) -> bool:
    """Whether the main process holds this job until it has ended, and can release it."""
    return bool(
        task.acks_late and (request.properties or {}).get(LEASED) and _releases(task.Request)
    )


@cache
def _releases(request_class: Any) -> bool:
    """Whether this class of requests (of the main process) can release a job with new headers."""
    return getattr(symbol_by_name(request_class), "releases_jobs", False)


def requeued_signature(
    task: TaskLike, request: Any, *, seconds: float, retries: int, baton: Baton
) -> Any:
    """The signature of the next attempt, with its wait, its count and its baton."""
    headers = {**(request.headers or {}), HEADER: baton.header()}
    return task.signature_from_request(request, countdown=seconds, retries=retries, headers=headers)


def republish(task: TaskLike, request: Any, *, seconds: float, retries: int, baton: Baton) -> Any:
    """Publish a copy of the job for the next attempt. Raises Reject if the broker refuses it.

    Celery's own retry drops the job then (`Reject(requeue=False)`); this one goes back to the
    broker. The copy has no unique key: the original still holds it, so the copy would be its
    duplicate.
    """
    job = requeued_signature(
        task, request, seconds=seconds, retries=retries, baton=replace(baton, unique=None)
    )
    try:
        job.apply_async()
    except Exception as error:  # the job must not be acked, whatever the reason
        raise Reject(error, requeue=True) from error
    return job


def retry_by_celery(
    task: TaskLike, request: Any, retry: Callable[..., Any], args: Any, options: Mapping[str, Any]
) -> Any:
    """Celery's own `retry`, turned into a release if it asks for the same message later."""
    if args or not options.keys() <= _SAME_MESSAGE or not is_leased(task, request):
        return retry(*args, **options)
    request.is_eager = True  # Celery then raises its Retry without sending anything
    try:
        retry(**options)
    except CeleryRetry as again:
        raise ReleaseRetry(
            None,
            again.exc,
            again.when,
            _seconds(again.when),
            request.retries + 1,
            _baton_with(request, again.exc).header(),
        ) from again.exc
    finally:
        request.is_eager = False
    raise AssertionError("Celery's retry raises")


def _baton_with(request: Any, error: BaseException | None) -> Baton:
    baton = baton_of(request)
    return baton if error is None else baton.with_error(request.retries + 1, error)


def _seconds(when: float | datetime) -> float:
    return max(
        clock.instant(when) - clock.now() if isinstance(when, datetime) else when, MIN_DELAY_SECONDS
    )
