"""What a worker does when it is told to over remote control, beside Celery's own commands.

It runs in the worker's main process, between two deliveries. Imported when a worker starts, and not
before: it needs Celery's worker, which a program that only dispatches doesn't.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from celery.utils.log import get_logger
from celery.worker import state as celery_state
from celery.worker.control import Panel, control_command

from relevo.transport import qos
from relevo.worker import restart

logger = get_logger(__name__)


@control_command(args=[("ids", str)], signature="[id1 [id2 […]]]")  # type: ignore[untyped-decorator,unused-ignore]
def cancel_jobs(
    state: Any, ids: Iterable[str], terminate: bool = False, **_options: Any
) -> dict[str, list[str]]:
    """Don't start these jobs; kill those that run, if that is asked for. Says which were killed,
    and which run on.
    """
    wanted = set(ids)
    channel = state.consumer.task_consumer.channel
    if hasattr(channel, "intake"):
        channel.intake.drop(wanted)
        for request in state.consumer.let_go(wanted) if hasattr(state.consumer, "let_go") else ():
            forget(request)
            channel.qos.forget(request.message.delivery_tag)  # its place is free
    requests = [request for request in list(celery_state.reserved_requests) if request.id in wanted]
    if not requests:
        return {"killed": [], "running": []}
    for request in requests:
        forget(request)
    if qos.pool is not None:
        qos.pool.recall()
    started = [request for request in requests if request.time_start]
    killed = [
        request.id for request in started if terminate and _killed(request, state.consumer.pool)
    ]
    return {
        "killed": killed,
        "running": [request.id for request in started if request.id not in killed],
    }


def forget(request: Any) -> None:
    """The job of a request is no longer in the broker: nothing is to be said about it there."""
    message = request.message
    request.withdrawn = True
    if hasattr(message, "job"):
        message.channel.ledger.drop([message.delivery_tag])


def _killed(request: Any, pool: Any) -> bool:
    try:
        request.terminate(pool)
    except NotImplementedError:  # a pool of threads
        logger.warning("%s[%s] can't be killed in this pool and runs on", request.name, request.id)
        return False
    logger.warning("%s[%s] was cancelled and killed", request.name, request.id)
    return True


def _recalling(revoke: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's own `revoke` looks at a job when it is handed to the pool: what waits in its pipe
    has to come back.
    """

    @wraps(revoke)
    def revoke_and_recall(*args: Any, **options: Any) -> Any:
        answer = revoke(*args, **options)
        if qos.pool is not None:
            qos.pool.recall()
        return answer

    return revoke_and_recall


def _renewing(time_limit: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's own `time_limit` changes the task; the worker goes by what it has made of the task
    when it started.
    """

    @wraps(time_limit)
    def limit_and_renew(state: Any, *args: Any, **options: Any) -> Any:
        answer = time_limit(state, *args, **options)
        state.consumer.update_strategies()
        return answer

    return limit_and_renew


Panel.data["revoke"] = _recalling(Panel.data["revoke"])
Panel.data["time_limit"] = _renewing(Panel.data["time_limit"])


@control_command()  # type: ignore[untyped-decorator,unused-ignore]
def restart_worker(state: Any, **_options: Any) -> dict[str, Any]:
    """Finish what runs, then start anew."""
    logger.warning("this worker was told to start anew")
    running = len(celery_state.active_requests)
    return {**worker_life(state), "running": running, "comes_back": restart.ask()}


@control_command()  # type: ignore[untyped-decorator,unused-ignore]
def worker_life(state: Any, **_options: Any) -> dict[str, Any]:  # noqa: ARG001  Celery's signature
    """Which life of its process this is."""
    return {"pid": os.getpid(), "life": restart.LIFE}
