"""Put a job back for another attempt: the same job, the same id, with a new baton.

    child:         raise Again(seconds, retries, baton) -----> Celery marks RETRY, the child is free
    main process:  Request.on_retry -> the channel -> the driver's `release`, one call: payload, delay and count

On our drivers nothing is published. The job that was reserved goes back changed, in one atomic step
of the worker's main process, so a crash at any instant leaves one copy: as it was (its lease ends,
the attempt runs again) or as it is to be. A broker that is away gets it when it is back; its lease
is renewed until then.

Elsewhere (Celery's memory, SQS), and in a task that acks before it runs, the job is published again
and what it takes the place of is acked afterwards: a crash between the two leaves two copies, never
none.
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

# A job that goes back "at once" goes behind those that could run already: without a delay it would
# keep its place, and one that is released again and again would let nothing else run.
MIN_DELAY_SECONDS = 0.001

# What Celery's `retry` can be told without asking for another message than the one that is there.
_SAME_MESSAGE = frozenset({"exc", "countdown", "eta", "max_retries"})


class ReleaseRetry(CeleryRetry):
    """Celery's word for a retry, with what the main process has to do: nothing has been sent yet."""

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
    """The order to put a job back that an attempt ended in, if it is one."""
    if isinstance(error, ExceptionWithTraceback):
        error = error.exc
    return error if isinstance(error, ReleaseRetry) else None


def header_changes(retries: int, baton: Mapping[str, Any]) -> dict[str, Any]:
    """The headers of the job as it goes back."""
    return {"retries": retries, **({HEADER: dict(baton)} if baton else {})}


def is_leased(task: TaskLike, request: Any) -> bool:
    """Whether the main process holds this job until it has ended, so that it can put it back."""
    return bool(
        task.acks_late and (request.properties or {}).get(LEASED) and _releases(task.Request)
    )


@cache
def _releases(request_class: Any) -> bool:
    """Whether the main process's class of requests can release a job with a new payload."""
    return getattr(symbol_by_name(request_class), "releases_jobs", False)


def requeued_signature(
    task: TaskLike, request: Any, *, seconds: float, retries: int, baton: Baton
) -> Any:
    """The job as it goes back: everything Celery knows of it, its wait, its count and its baton."""
    headers = {**(request.headers or {}), HEADER: baton.header()}
    return task.signature_from_request(request, countdown=seconds, retries=retries, headers=headers)


def republish(task: TaskLike, request: Any, *, seconds: float, retries: int, baton: Baton) -> Any:
    """Publish the job again. Raises Reject when the broker won't have it.

    Celery's own retry then drops the job (`Reject(requeue=False)`); ours stays with the broker and
    comes back.

    It asks for no unique key: while what it takes the place of is still there it would be its own
    duplicate, and gone.
    """
    job = requeued_signature(
        task, request, seconds=seconds, retries=retries, baton=replace(baton, unique=None)
    )
    try:
        job.apply_async()
    except Exception as error:  # whatever kept it from being sent, the job must not be acked
        raise Reject(error, requeue=True) from error
    return job


def retry_by_celery(
    task: TaskLike, request: Any, retry: Callable[..., Any], args: Any, options: Mapping[str, Any]
) -> Any:
    """Celery's own `retry`, in one step where it asks for nothing but the same job later."""
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
            _noted(request, again.exc).header(),
        ) from again.exc
    finally:
        request.is_eager = False
    raise AssertionError("Celery's retry raises")


def _noted(request: Any, error: BaseException | None) -> Baton:
    baton = baton_of(request)
    return baton if error is None else baton.with_error(request.retries + 1, error)


def _seconds(when: float | datetime) -> float:
    return max(
        clock.instant(when) - clock.now() if isinstance(when, datetime) else when, MIN_DELAY_SECONDS
    )
