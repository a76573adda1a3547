"""Remote control: what a worker does when it is told to, beside Celery's own commands.

It runs in the worker's main process, between two deliveries. It is imported only when a worker
starts, because it needs Celery's worker, which a program that only dispatches doesn't load.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from celery.utils.log import get_logger
from celery.worker import state as celery_state
from celery.worker.control import Panel, control_command

from relevo.transport import context
from relevo.worker import restart

logger = get_logger(__name__)


@control_command(args=[("ids", str)], signature="[id1 [id2 […]]]")  # type: ignore[untyped-decorator,unused-ignore]
def cancel_jobs(
    state: Any, ids: Iterable[str], terminate: bool = False, **_options: Any
) -> dict[str, list[str]]:
    """Don't start these jobs; kill those that run if `terminate`.

    Answers with the ids of the killed jobs and of those that run on.
    """
    wanted = set(ids)
    channel = state.consumer.task_consumer.channel
    if hasattr(channel, "fetcher"):
        channel.fetcher.discard(wanted)
        for request in _in_buckets(state.consumer, wanted):
            drop(request)
            channel.qos.forget(request.message.delivery_tag)  # its place is free
    requests = [request for request in list(celery_state.reserved_requests) if request.id in wanted]
    if not requests:
        return {"killed": [], "running": []}
    for request in requests:
        drop(request)
    context.current().recall_unstarted()
    started = [request for request in requests if request.time_start]
    killed = [
        request.id for request in started if terminate and _kill(request, state.consumer.pool)
    ]
    return {
        "killed": killed,
        "running": [request.id for request in started if request.id not in killed],
    }


def _in_buckets(consumer: Any, ids: set[str]) -> list[Any]:
    remove = getattr(consumer, "remove_from_buckets", None)
    return [] if remove is None else list(remove(ids))


def drop(request: Any) -> None:
    """Forget the job of a request, which the broker no longer has: it is told nothing about it."""
    message = request.message
    request.is_cancelled = True
    if hasattr(message, "job"):
        message.channel.keeper.discard([message.delivery_tag])


def _kill(request: Any, pool: Any) -> bool:
    try:
        request.terminate(pool)
    except NotImplementedError:  # a pool of threads
        logger.warning("%s[%s] can't be killed in this pool and runs on", request.name, request.id)
        return False
    logger.warning("%s[%s] was cancelled and killed", request.name, request.id)
    return True


def _then_recall(revoke: Callable[..., Any]) -> Callable[..., Any]:
    """Celery checks for revoked jobs when it hands them to the pool, so those in its pipe must come
    back.
    """

    @wraps(revoke)
    def revoke_and_recall(*args: Any, **options: Any) -> Any:
        answer = revoke(*args, **options)
        context.current().recall_unstarted()
        return answer

    return revoke_and_recall


def _then_update(time_limit: Callable[..., Any]) -> Callable[..., Any]:
    """Celery changes the task, but the worker goes by the strategies that it made at its start."""

    @wraps(time_limit)
    def limit_and_update(state: Any, *args: Any, **options: Any) -> Any:
        answer = time_limit(state, *args, **options)
        state.consumer.update_strategies()
        return answer

    return limit_and_update


def _with_requests(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command about jobs: those on the short way get a request first, which it will find."""

    @wraps(command)
    def promote_and_do(*args: Any, **options: Any) -> Any:
        if (shipper := context.current().shipper) is not None:
            shipper.promote_all()
        return command(*args, **options)

    return promote_and_do


def _long_from_now(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command that changes a task here, but not in the children: its jobs go the long way."""

    @wraps(command)
    def do_and_note(state: Any, task_name: str, *args: Any, **options: Any) -> Any:
        if (shipper := context.current().shipper) is not None:
            shipper.go_long(task_name)
        return command(state, task_name, *args, **options)

    return do_and_note


for _name in ("rate_limit", "time_limit"):
    Panel.data[_name] = _long_from_now(Panel.data[_name])
Panel.data["revoke"] = _then_recall(Panel.data["revoke"])
Panel.data["time_limit"] = _then_update(Panel.data["time_limit"])


@control_command()  # type: ignore[untyped-decorator,unused-ignore]
def restart_worker(state: Any, **_options: Any) -> dict[str, Any]:
    """Finish what runs, then restart."""
    logger.warning("this worker was told to restart")
    running = len(celery_state.active_requests)
    return {**worker_generation(state), "running": running, "comes_back": restart.request()}


# the command keeps the name that `celery -A tasks restart` sends
@control_command(name="worker_life")  # type: ignore[untyped-decorator,unused-ignore]
def worker_generation(state: Any, **_options: Any) -> dict[str, Any]:  # noqa: ARG001  Celery's signature
    """Answer with the process's number and which of its runs this is."""
    return {"pid": os.getpid(), "life": restart.GENERATION}


_ABOUT_JOBS = (
    "active",
    "reserved",
    "query_task",
    "revoke",
    "revoke_by_stamped_headers",
    "terminate",
    "cancel_jobs",
    "restart_worker",
)
for _name in _ABOUT_JOBS:
    Panel.data[_name] = _with_requests(Panel.data[_name])
