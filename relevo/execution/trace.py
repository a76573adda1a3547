"""Celery's tracer, as a worker calls it: its final result is captured, not stored.

`register_tracer` puts it in the place of Celery's own for every pool. Its answer is Celery's with a
fourth part: the captured results.
"""

from __future__ import annotations

from typing import Any

from celery.app import trace as celerys
from celery.worker import request as celery_request

from relevo.recording import results


def register_tracer() -> None:
    """Have requests trace by these functions. Safe to call again."""
    celery_request.trace_task_ret = trace_task
    celery_request.fast_trace_task = fast_trace_task


def trace_task(name: str, uuid: str, *args: Any, **options: Any) -> tuple[Any, ...]:
    """Celery's `trace_task_ret`, which looks the task up by its name."""
    with results.captured(uuid) as found:
        return (*celerys.trace_task_ret(name, uuid, *args, **options), tuple(found))


def fast_trace_task(task: str, uuid: str, *args: Any, **options: Any) -> tuple[Any, ...]:
    """Celery's `fast_trace_task`, in a process that is set up for it."""
    with results.captured(uuid) as found:
        return (*celerys.fast_trace_task(task, uuid, *args, **options), tuple(found))
