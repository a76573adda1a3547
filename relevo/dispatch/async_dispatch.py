"""Dispatching from asyncio: `await task.adispatch(7)` never blocks the event loop.

    Redis      a plain task's job goes by redis.asyncio; jobs that are dispatched at the same time
               go together (relevo/drivers/redis/async_puts.py)
    the rest   `apply_async` in a thread: SQL brokers, and what the short way doesn't know
               (relevo/dispatch/publisher.py)

Options, checks, results and errors are those of `dispatch`, `delay` and `apply_async`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from celery import uuid
from celery._state import get_current_worker_task
from kombu.exceptions import OperationalError

from relevo.dispatch import async_result, prepare
from relevo.dispatch.capture import current_producer
from relevo.dispatch.publisher import Prepared, Publisher
from relevo.drivers import validation
from relevo.drivers.values import Placed
from relevo.errors import DriverError, OptionError
from relevo.job import option_names, payload
from relevo.job.options import OVERRIDES
from relevo.transport import put_results


class AsyncDispatchMixin:
    """Gives a task `adispatch`, `adelay` and `aapply_async`."""

    async def adispatch(self, *args: Any, **kwargs: Any) -> Any:
        """Dispatch a job of this task without blocking the event loop. Returns its AsyncResult."""
        return await self.aapply_async(args, kwargs)

    async def adelay(self, *args: Any, **kwargs: Any) -> Any:
        """Celery's `delay` without blocking the event loop."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> Any:
        """`apply_async` without blocking the event loop.

        Raises OptionError for `session`: a transaction of SQLAlchemy's Session belongs to a thread.
        """
        task: Any = self
        option_names.refuse_in_dispatch(task.name, options)
        if options.pop("session", None) is not None:
            raise OptionError(
                f"a dispatch of asyncio can't be part of a Session (task {task.name!r}); with an"
                " AsyncSession, use await session.run_sync(lambda session: task.dispatch(...,"
                " session=session))"
            )
        if current_producer() is not None:  # captured, not sent: nothing can block
            return task.apply_async(args, kwargs, task_id, **options)
        task_id = task_id or uuid()
        publisher = getattr(task.app, "publisher", None)
        if publisher is None or not task.plain_dispatch:
            return await _in_thread(task, args, kwargs, task_id, options)
        if task.options.needs_baton or not OVERRIDES.isdisjoint(options):
            options = prepare.with_baton(task, args, kwargs, options)
        prepared = publisher.prepare(task, args, kwargs, task_id, options)
        puts = getattr(prepared and prepared.driver, "async_puts", None)
        if prepared is None or puts is None or not puts.is_possible:
            return await _in_thread(task, args, kwargs, task_id, options)
        receipt = put_results.expect(task_id) if payload.is_unique(options) else None
        result = publisher.result(task, prepared, await _put(publisher, puts, prepared))
        return result if receipt is None else async_result.with_put_result(receipt, result)


async def _put(publisher: Publisher, puts: Any, prepared: Prepared) -> Placed:
    validation.jobs([prepared.job])  # alone: a bad job must not fail those beside it
    try:
        placed: Placed = await puts.put(prepared.job, publisher.retry_waits())
    except DriverError as error:
        publisher.forget_driver()
        raise OperationalError(str(error)) from error
    return placed


async def _in_thread(
    task: Any, args: Any, kwargs: Any, task_id: str, options: dict[str, Any]
) -> Any:
    """`apply_async` in a thread, which doesn't know the job that runs in this one."""
    parent = get_current_worker_task()
    if parent is None:
        return await asyncio.to_thread(task.apply_async, args, kwargs, task_id, **options)
    request = parent.request
    options = {"root_id": request.root_id or request.id, "parent_id": request.id, **options}
    if task.app.conf.task_inherit_parent_priority:
        options.setdefault("priority", (request.delivery_info or {}).get("priority"))
    result = await asyncio.to_thread(task.apply_async, args, kwargs, task_id, **options)
    if options.get("add_to_parent", True):
        parent.add_trail(result)
    return result
