"""The messages of many members, made quickly: the first of a kind by Celery, the others from its copy.

A member is like the one before when it is of the same task with the same options: then its message is the same but for
its id, its arguments and its place. Celery makes a message in 200 us, and a copy takes 15. Whatever could make a
difference (a route that is a function, somebody who listens to dispatches, tags, a fake) has every message made by
Celery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery import signals
from celery.app.routes import MapRoute
from celery.canvas import Signature
from celery.utils.saferepr import saferepr
from kombu.utils.json import dumps as kombu_dumps

from relevo import clock
from relevo.drivers import messages
from relevo.drivers.values import NewJob
from relevo.job import members
from relevo.job.collect import collected
from relevo.job.members import Membership
from relevo.job.options import OVERRIDES
from relevo.job.task import Task

# Options that make of each member something else.
_APART = frozenset({"countdown", "eta", "expires", "link", "link_error", "chord", "group_id", "group_index", "headers",
                    "task_id", "serializer", "compression", "reply_to", "stamped_headers"})  # fmt: skip
_PLAIN = (int, float, type(None))
_SHORT = 64


class Press:
    """Makes the messages of members of one app; `options` are given to every one of them, and yield to its own."""

    def __init__(self, app: Any, options: Mapping[str, Any]) -> None:
        self.app, self.options = app, dict(options)
        self._copies: dict[str, _Copy] = {}
        self._alike = _nobody_looks(app)

    def job(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        """The job of a member, with this id and this place."""
        if not self._alike or not self._is_plain(member):
            return self.made(member, uuid, place)
        key = f"{member['task']} {member['immutable']} {member['options'] or ''}"
        copy = self._copies.get(key)
        if copy is None:
            job = self.made(member, uuid, place)
            copy = self._copies[key] = _Copy(self.app.tasks[member["task"]], job)
            return job
        return copy.job(member, uuid, place) if copy.is_plain else self.made(member, uuid, place)

    def made(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        """The same, by Celery."""
        own = dict(member.options)
        headers = members.with_places(own.pop("headers", None), place)
        single = member.clone()
        single.options = {**self.options, **own}
        [job] = collected(self.app, single, headers=headers, **({} if "task_id" in own else {"task_id": uuid}))
        return replace(job, unique_key=None)  # a member that was left out as a duplicate would never end

    def _is_plain(self, member: Signature) -> bool:
        options = member["options"]
        if options and not (_APART.isdisjoint(options) and OVERRIDES.isdisjoint(options)):
            return False
        task = self.app.tasks.get(member["task"])
        return isinstance(task, Task) and type(task).apply_async is Task.apply_async and not task.options.travel


class _Copy:
    """The message of a member, and others like it."""

    def __init__(self, task: Task, job: NewJob) -> None:
        self.task, self.first = task, job
        self.message = messages.loads(job.payload)
        self.head = self.message["headers"]
        self.check = getattr(task, "__header__", None) if task.typing else None
        self.is_plain = self.message.get("content-type") == "application/json" and "compression" not in self.head
        if self.is_plain:
            self.embed = json.loads(self.message["body"])[2]

    def job(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        args, kwargs = tuple(member["args"] or ()), member["kwargs"] or {}
        if self.check is not None:
            self.check(*args, **kwargs)
        head = self.head
        headers = {**head, "id": uuid, "argsrepr": shown(args), "kwargsrepr": shown(kwargs),
                   members.HEADER: [place.header()]}  # fmt: skip
        if head.get("root_id") == head.get("id"):
            headers["root_id"] = uuid
        properties = {**self.message["properties"], "correlation_id": uuid, messages.DUE_AT: clock.now()}
        message = {**self.message, "body": _body([args, kwargs, self.embed]), "headers": headers,
                   "properties": properties}  # fmt: skip
        return NewJob(queue=self.first.queue, payload=messages.dumps(message), id=uuid, priority=self.first.priority)


def shown(value: Any) -> str:
    """Arguments as people read them: Celery's own way, which for a few plain values is `repr`."""
    items = value.values() if isinstance(value, dict) else value
    for item in items:
        if not isinstance(item, _PLAIN) and not (isinstance(item, str) and len(item) <= _SHORT):
            return str(saferepr(value, 1024))
    text = repr(value)
    return text if len(text) <= 1024 else str(saferepr(value, 1024))  # noqa: PLR2004  Celery's own limit


def _body(body: Any) -> str:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    except TypeError:
        return str(kombu_dumps(body))


def _nobody_looks(app: Any) -> bool:
    return not (
        app.conf.task_always_eager
        or app.conf.task_send_sent_event
        or "send_task" in vars(app)
        or app.conf.task_serializer != "json"
        or app.conf.task_compression
        or signals.before_task_publish.receivers
        or signals.after_task_publish.receivers
        or not all(isinstance(route, MapRoute) for route in app.amqp.router.routes)
    )
