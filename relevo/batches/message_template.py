"""Makes the messages of a batch's members: the first of a kind by Celery, the others from its copy.

Two members are of one kind if they have the same task and the same options. Their messages differ
in the id, the arguments and the place in the batch. Celery makes a message in 200 us, a template
fills one in 15. Where a message could differ in more (a route that is a function, a receiver of
Celery's publish signals, tags, a fake), Celery makes every one.
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
from relevo.database.text import storable
from relevo.dispatch.capture import captured_jobs
from relevo.drivers import message_codec
from relevo.drivers.values import Conflict, NewJob
from relevo.job import membership, redaction
from relevo.job.membership import Membership
from relevo.job.options import OVERRIDES
from relevo.job.task_protocol import TaskLike

# A member with one of these options gets its message from Celery.
_UNIQUE_OPTIONS = frozenset(
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
# A text of at most this many characters is plain: `repr` shows it as Celery would.
_SHORT_CHARACTERS = 64
# Celery's limit for the representation of arguments, in characters.
_LONGEST_REPR = 1024

# Marks a gap in a template. No message contains it.
_GAP = "relevo-gap-6f1c0d9e-"
# Encoders are made once: `json.dumps` with options makes one for each call.
# Writes a text as message_codec.dumps does.
_encode_text = json.JSONEncoder(ensure_ascii=False).encode
_encode_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class MessageFactory:
    """Makes the messages of one batch's members. `options` go to each member that has none of its
    own.
    """

    def __init__(self, app: Any, options: Mapping[str, Any]) -> None:
        self.app, self.options = app, dict(options)
        self._templates: dict[str, MessageTemplate] = {}
        self._use_templates = _can_use_template(app)

    def build(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        """The job of a member, with this id and this place."""
        if not self._use_templates or not self._is_plain(member):
            return self.build_by_celery(member, uuid, place)
        key = f"{member['task']} {member['immutable']} {member['options'] or ''}"
        template = self._templates.get(key)
        if template is None:
            job = self.build_by_celery(member, uuid, place)
            self._templates[key] = MessageTemplate(self.app.tasks[member["task"]], job)
            return job
        if template.is_plain:
            return template.fill(member, uuid, place)
        return self.build_by_celery(member, uuid, place)

    def build_by_celery(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        """The same, made by Celery."""
        own = dict(member.options)
        headers = membership.with_places(own.pop("headers", None), place)
        single = member.clone()
        single.options = {**self.options, **own}
        [job] = captured_jobs(
            self.app, single, headers=headers, **({} if "task_id" in own else {"task_id": uuid})
        )
        # A debounced member need not wait: no later dispatch replaces it.
        latest = job.on_conflict is Conflict.LATEST
        # No unique key: a member that was left out as a duplicate would never end.
        return replace(job, unique_key=None, available_at=None if latest else job.available_at)

    def _is_plain(self, member: Signature) -> bool:
        options = member["options"]
        if options and not (_UNIQUE_OPTIONS.isdisjoint(options) and OVERRIDES.isdisjoint(options)):
            return False
        task = self.app.tasks.get(member["task"])
        return getattr(task, "plain_dispatch", False) and not task.options.needs_baton


class MessageTemplate:
    """The message of a member as JSON text, with gaps for the values that differ by member."""

    def __init__(self, task: TaskLike, job: NewJob) -> None:
        self.first, self.app, self.task = job, task.app, task.name
        self.check = getattr(task, "__header__", None) if task.typing else None
        message = message_codec.loads(job.payload)
        head = message["headers"]
        self.is_plain = (
            message.get("content-type") == "application/json" and "compression" not in head
        )
        if self.is_plain:
            self.embed = _encode_body(json.loads(message["body"])[2])
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

    def fill(self, member: Signature, uuid: str, place: Membership) -> NewJob:
        """The job of another member of this kind."""
        args, kwargs = tuple(member["args"] or ()), member["kwargs"] or {}
        if self.check is not None:
            self.check(*args, **kwargs)
        seen = redaction.redacted_arguments(self.app, self.task, args, kwargs)
        own = {
            "uuid": _encode_text(uuid),
            "args": _encode_text(argument_repr(tuple(seen[0]))),
            "kwargs": _encode_text(argument_repr(seen[1])) if kwargs else '"{}"',
            "place": _encode_compact([place.header()]),
            "due": repr(clock.now()),
            "body": _encode_text(
                f"[{_encode_body(args)},{_encode_body(kwargs) if kwargs else '{}'},{self.embed}]"
            ),
        }
        # Every second piece is the name of a gap. Encoding the whole message with `json.dumps`
        # instead took a third of the time of a dispatch.
        pieces = self.pieces.copy()
        pieces[1::2] = [own[name] for name in pieces[1::2]]
        payload = storable("".join(pieces))
        return NewJob(
            queue=self.first.queue, payload=payload, id=uuid, priority=self.first.priority
        )


def argument_repr(value: Any) -> str:
    """Arguments as text for people, as Celery writes them: `repr` for a few plain values."""
    items = value.values() if isinstance(value, dict) else value
    if all(map(_is_plain_value, items)) and len(text := repr(value)) <= _LONGEST_REPR:
        return text
    return str(saferepr(value, _LONGEST_REPR))


def _is_plain_value(value: Any) -> bool:
    return isinstance(value, _PLAIN) or (isinstance(value, str) and len(value) <= _SHORT_CHARACTERS)


def _gap(name: str) -> str:
    return f"{_GAP}{name}"


def _encode_body(body: Any) -> str:
    try:
        return _encode_compact(body)
    except TypeError:
        return str(kombu_dumps(body))


def _can_use_template(app: Any) -> bool:
    """Whether messages of this app differ in nothing but id, arguments and place."""
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
