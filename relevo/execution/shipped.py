"""Runs a job from its raw payload, where its body runs: in a child of the pool.

    payload -> headers, arguments -> Celery's own tracer -> how it ended, ready to be recorded

The main process has not read the payload, and reads it only if something is to be done that needs
a request there: an attempt that failed, a child that died, a command about the job. What this way
doesn't know goes the long way (`LONG`): a request in the main process, as Celery does it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from celery.utils.log import get_logger
from celery.worker.strategy import logger as strategy_logger

from relevo import clock
from relevo.drivers import message_codec
from relevo.drivers.contract import ReservedJob
from relevo.recording import endings, results
from relevo.recording.results import CapturedResult
from relevo.store.outcomes import Ending

logger = get_logger(__name__)

REQUEST, STRATEGY = "relevo.worker.request:Request", "celery.worker.strategy:default"
_JSON = "application/json"
_INFO = 20


class Long(NamedTuple):
    """The job goes the long way: it was not started. `task`: its task, where that is the reason."""

    task: str | None


class Ran(NamedTuple):
    """The tracer has run the job. `failure`: Celery's exception info, unless it returned."""

    task: str
    failure: Any
    returned: str | None
    seconds: float | None
    ending: Ending | None
    results: tuple[CapturedResult, ...]


class ShippedRequest:
    """What the record of an end asks of a request, made from a message."""

    __slots__ = ("_payload", "app", "delivery_info", "id", "request_dict", "time_start", "type")

    def __init__(self, app: Any, headers: dict[str, Any], payload: Any, info: Any) -> None:
        self.app, self.request_dict, self._payload = app, headers, payload
        self.id, self.type, self.delivery_info = headers["id"], headers["task"], info
        self.time_start = clock.now()


def run(app: Any, job: ReservedJob, permit: str | None, hostname: str, limit: Any) -> Ran | Long:
    """Run a job. `limit(soft, hard)` says for how many seconds it may run."""
    try:
        message = message_codec.from_job(job, permit)
        headers, properties = message["headers"], message["properties"]
        name = headers["task"]
        task = app.tasks.get(name)
        if not _is_plain(task):
            return Long(name)
        if message["content-type"] != _JSON or headers.get("expires") or "id" not in headers:
            return Long(None)
        payload = message_codec.loads(message["body"])
        args, kwargs, embed = payload
    except Exception:  # noqa: BLE001  whatever is wrong with it, the long way says it
        return Long(None)
    hard, soft = headers.get("timelimit") or (None, None)
    limit(soft or task.soft_time_limit, hard or task.time_limit)
    info = {
        "exchange": properties["delivery_info"].get("exchange"),
        "routing_key": properties["delivery_info"].get("routing_key"),
        "priority": properties.get("priority"),
        "redelivered": bool(job.rescues),
    }
    headers.update(
        properties=properties,
        reply_to=properties.get("reply_to"),
        correlation_id=properties.get("correlation_id"),
        hostname=hostname,
        delivery_info=info,
        args=args,
        kwargs=kwargs,
        is_eager=False,
    )
    if embed:
        headers.update(embed)
    if strategy_logger.isEnabledFor(_INFO):
        strategy_logger.info("Task %s[%s] received", name, headers["id"])
    request = ShippedRequest(app, headers, payload, info)
    with results.captured(headers["id"]) as captured:
        value, failed, seconds, returned = task.__trace__(headers["id"], args, kwargs, headers)
    if failed is not None:
        return Ran(name, value, None, seconds, None, tuple(captured))
    ending = endings.for_return(request, returned, seconds)
    if captured:
        ending = replace(ending or Ending(listed=False), results=tuple(captured))
    return Ran(name, None, returned, seconds, ending, tuple(captured))


def _is_plain(task: Any) -> bool:
    return (
        task is not None
        and task.acks_late
        and task.rate_limit is None
        and task.Request == REQUEST
        and task.Strategy == STRATEGY
    )
