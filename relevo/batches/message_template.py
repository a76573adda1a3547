"""The messages of many members, made quickly: the first of a kind by Celery, the others from its
copy.

A member is like the one before when it is of the same task with the same options: then its message
is the same but for its id, its arguments and its place. Celery makes a message in 200 us, and a
copy takes 15. Whatever could make a difference (a route that is a function, somebody who listens to
dispatches, tags, a fake) has every message made by Celery.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from celery import signals
from celery.app.routes import MapRoute
from celery.canvas import Signature
from celery.utils.saferepr import saferepr
from kombu.utils.json import dumps as kombu_dumps

from relevo import clock
from relevo.dispatch.capture import captured_jobs
from relevo.drivers import message_codec
from relevo.drivers.values import Conflict, NewJob
from relevo.job import membership, redaction
from relevo.job.membership import Membership
from relevo.job.options import OVERRIDES
from relevo.job.task_protocol import TaskLike

# Options that make of each member something else.
_APART = frozenset(
    {
        "countdown",
        "eta",
        "expires",
        "link",
        "link_error",
        "chord",
        "group_id",
        "group_index",
        "headers",
        "task_id",
        "serializer",
        "compression",
        "reply_to",
        "stamped_headers",
    }
)
_PLAIN = (int, float, type(None))
_SHORT = 64


class Press:
    """Makes the messages of members of one app; `options` are given to every one of them, and yield
    to its own.
    """

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
        headers = membership.with_places(own.pop("headers", None), place)
        single = member.clone()
        single.options = {**self.options, **own}
        [job] = captured_jobs(
            self.app, single, headers=headers, **({} if "task_id" in own else {"task_id": uuid})
        )
        latest = job.on_conflict is Conflict.LATEST  # and needs no time to be replaced in
        # A member that was left out as a duplicate would never end.
        return replace(job, unique_key=None, available_at=None if latest else job.available_at)

    def _is_plain(self, member: Signature) -> bool:
        options = member["options"]
        if options and not (_APART.isdisjoint(options) and OVERRIDES.isdisjoint(options)):
            return False
        task = self.app.tasks.get(member["task"])
        return getattr(task, "plain_dispatch", False) and not task.options.needs_baton


class _Copy:
    """The message of a member as JSON text, with gaps for what is another member's own."""

    def __init__(self, task: TaskLike, job: NewJob) -> None:
        self.first, self.app, self.task = job, task.app, task.name
        self.check = getattr(task, "__header__", None) if task.typing else None
        message = message_codec.loads(job.payload)
        head = message["headers"]
        self.is_plain = (
            message.get("content-type") == "application/json" and "compression" not in head
        )
        if self.is_plain:
            self.embed = _body(json.loads(message["body"])[2])
            root = {"root_id": _gap("uuid")} if head.get("root_id") == head.get("id") else {}
            message["headers"] = {
                **head,
                **root,
                "id": _gap("uuid"),
                "argsrepr": _gap("args"),
                "kwargsrepr": _gap("kwargs"),
                membership.MEMBER_HEADER: _gap("place"),
            }
            message["properties"] |= {
                "correlation_id": _gap("uuid"),
                message_codec.DUE_AT: _gap("due"),
            }
            self.pieces = re.split(
                f'"{_GAP}(\\w+)"', message_codec.dumps({**message, "body": _gap("body")})
            )

    def job(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        args, kwargs = tuple(member["args"] or ()), member["kwargs"] or {}
        if self.check is not None:
            self.check(*args, **kwargs)
        seen = redaction.redacted_arguments(self.app, self.task, args, kwargs)
        own = {
            "uuid": _TEXT(uuid),
            "args": _TEXT(shown(tuple(seen[0]))),
            "kwargs": _TEXT(shown(seen[1])) if kwargs else '"{}"',
            "place": _BODY([place.header()]),
            "due": repr(clock.now()),
            "body": _TEXT(f"[{_body(args)},{_body(kwargs) if kwargs else '{}'},{self.embed}]"),
        }
        # Every second piece is the name of a gap. The message made whole by `json.dumps` took a
        # third of all time.
        pieces = self.pieces.copy()
        pieces[1::2] = [own[name] for name in pieces[1::2]]
        return NewJob(
            queue=self.first.queue, payload="".join(pieces), id=uuid, priority=self.first.priority
        )


# What no message has in it.
_GAP = "relevo-gap-6f1c0d9e-"
# A text as JSON, as messages.dumps writes it.
_TEXT = json.JSONEncoder(ensure_ascii=False).encode
# Made once: `json.dumps` with options makes an encoder each time.
_BODY = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _gap(name: str) -> str:
    return f"{_GAP}{name}"


def shown(value: Any) -> str:
    """Arguments as people read them: Celery's own way, which for a few plain values is `repr`."""
    items = value.values() if isinstance(value, dict) else value
    for item in items:
        if not isinstance(item, _PLAIN) and not (isinstance(item, str) and len(item) <= _SHORT):
            return str(saferepr(value, 1024))
    text = repr(value)
    # Celery's own limit
    return text if len(text) <= 1024 else str(saferepr(value, 1024))  # noqa: PLR2004


def _body(body: Any) -> str:
    try:
        return _BODY(body)
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
