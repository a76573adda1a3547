"""The message of a job as JSON text with gaps, made from the first message of its kind.

Jobs of one task with the same options have messages that differ in little: the id, the arguments, a
few headers. Celery and kombu make a message in 250 us, a template fills one in 20. Both mean the
same on the wire (tests/dispatch/test_publisher.py compares them).

    relevo/dispatch/publisher.py          jobs dispatched one by one
    relevo/batches/message_factory.py     the members of a batch
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from celery import signals
from celery.app.amqp import AMQP
from celery.app.routes import MapRoute
from celery.utils.saferepr import saferepr
from kombu.utils.json import dumps as kombu_dumps

from relevo import clock
from relevo.database.text import storable
from relevo.drivers import message_codec
from relevo.drivers.values import NewJob
from relevo.job import redaction
from relevo.job.payload import HEADER
from relevo.job.task_protocol import TaskLike

# Types whose `repr` is what Celery shows. Not their subclasses: an enum has a `repr` of its own.
_PLAIN = {int, float, bool, type(None)}
# Celery's second protocol for messages.
_PROTOCOL = 2
# Celery's limit for the texts of arguments, in characters.
MAX_REPR = AMQP.argsrepr_maxsize
_CONTAINERS = {tuple, list, dict}
# A printable text of at most this many characters is shown as `repr` shows it.
_SHORT_CHARACTERS = 64
# Headers of a message that has something which a template doesn't know.
_FOREIGN = ("eta", "expires", "shadow", "group", "stamped_headers", "stamps", "compression")

# Marks a gap in a template. No message contains it.
_GAP = "relevo-gap-6f1c0d9e-"
# Encoders are made once: `json.dumps` with options makes one for each call. The first writes a text
# as `message_codec.dumps` does.
_encode_text = json.encoder.encode_basestring
_encode_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class MessageTemplate:
    """The messages of one task with the same options, made from `job`, which Celery has made.

    `headers`, `properties`: the names of those whose values differ by job; `fill` gets them.
    """

    def __init__(
        self, task: TaskLike, job: NewJob, headers: Iterable[str], properties: Iterable[str] = ()
    ) -> None:
        self.app, self.task = task.app, task.name
        self.queue, self.priority = job.queue, job.priority
        self.repr_levels = task.app.conf.task_repr_maxlevels
        message = message_codec.loads(job.payload)
        self.is_plain = _is_plain(message)
        if not self.is_plain:
            return
        self.embed = encode_body(json.loads(message["body"])[2])
        message["headers"] |= {
            **{name: _gap(name) for name in headers},
            "id": _gap("id"),
            "argsrepr": _gap("args"),
            "kwargsrepr": _gap("kwargs"),
        }
        for name in ("argsrepr", "kwargsrepr"):
            # Celery lets given ones into the properties, too. Nobody reads them there.
            message["properties"].pop(name, None)
        message["properties"] |= {
            **{name: _gap(name) for name in properties},
            "correlation_id": _gap("id"),
            "delivery_tag": _gap("id"),
            message_codec.DUE_AT: _gap("due"),
        }
        self._pieces = re.split(
            f'"{_GAP}(\\w+)"', message_codec.dumps({**message, "body": _gap("body")})
        )

    def fill(
        self, id_: str, args: Any, kwargs: Mapping[str, Any], differing: Mapping[str, Any]
    ) -> NewJob:
        """Another job of this kind.

        Raises what the arguments raise if they can't be written as JSON.
        """
        now = clock.now()
        available_at, broker_fields = None, {}
        if HEADER in differing:  # as in `message_codec.to_job`
            unique = message_codec.unique_of(differing)
            wait = unique.get("wait")
            available_at = now + wait if wait else None
            broker_fields = {
                "unique_key": unique.get("key"),
                "fair_key": message_codec.fair_key_of(differing),
                **message_codec.conflict_of(unique),
            }
        args_text, kwargs_text = self._argument_reprs(args, kwargs)
        own = {
            **{name: _encode(value) for name, value in differing.items()},
            "id": _encode_text(id_),
            "args": _encode_text(args_text),
            "kwargs": _encode_text(kwargs_text),
            "due": repr(available_at or now),
            "body": _encode_text(
                f"[{encode_body(args)},{encode_body(kwargs) if kwargs else '{}'},{self.embed}]"
            ),
        }
        # Every second piece is the name of a gap. Encoding the whole message with `json.dumps`
        # instead took a third of the time of a dispatch.
        pieces = self._pieces.copy()
        pieces[1::2] = [own[name] for name in pieces[1::2]]
        return NewJob(
            queue=self.queue,
            payload=storable("".join(pieces)),
            id=id_,
            priority=self.priority,
            available_at=available_at,
            **broker_fields,
        )

    def _argument_reprs(self, args: Any, kwargs: Mapping[str, Any]) -> tuple[str, str]:
        """The arguments as texts for people, without secrets, as the long way has them."""
        if not args and not kwargs:
            return repr(args), "{}"
        hidden = redaction.with_redacted_reprs(self.app, self.task, args, kwargs, {})
        if hidden:
            return hidden["argsrepr"], hidden["kwargsrepr"]
        return (
            argument_repr(args, self.repr_levels),
            argument_repr(kwargs, self.repr_levels) if kwargs else "{}",
        )


def can_use_templates(app: Any) -> bool:
    """Whether the messages of a task of this app differ in nothing but what a template fills in.

    As far as its configuration goes; see also `has_receivers`.
    """
    conf, amqp = app.conf, app.amqp
    return not (
        conf.task_always_eager
        or conf.task_send_sent_event
        or conf.task_serializer != "json"
        or conf.task_compression
        or conf.task_protocol != _PROTOCOL
        or type(amqp) is not AMQP
        or (amqp.argsrepr_maxsize, amqp.kwargsrepr_maxsize) != (MAX_REPR, MAX_REPR)
        or not all(isinstance(route, MapRoute) for route in amqp.router.routes)
    )


def has_receivers() -> bool:
    """Whether anything listens to Celery's signals around a publish, which may change a message."""
    return bool(
        signals.before_task_publish.receivers
        or signals.after_task_publish.receivers
        or signals.task_sent.receivers
    )


def argument_repr(value: Any, levels: int) -> str:
    """Arguments as text for people, as Celery writes them: `repr` for a few plain values."""
    items = value.values() if isinstance(value, dict) else value
    keys = value if isinstance(value, dict) else ()
    if (
        type(value) in _CONTAINERS
        and all(map(_is_plain_value, items))
        and all(map(_is_plain_value, keys))
        and len(text := repr(value)) < MAX_REPR
    ):
        return text
    return str(saferepr(value, MAX_REPR, maxlevels=levels))


def encode_body(body: Any) -> str:
    """A part of a message's body as JSON, as kombu's encoder would have it."""
    try:
        return storable(_encode_compact(body))
    except TypeError:
        return storable(kombu_dumps(body))


def _is_plain(message: Mapping[str, Any]) -> bool:
    head, properties = message["headers"], message["properties"]
    return (
        message.get("content-type") == "application/json"
        and not any(head.get(name) for name in _FOREIGN)
        and "expiration" not in properties
        and not properties["delivery_info"].get("exchange")
    )


def _is_plain_value(value: Any) -> bool:
    kind = type(value)
    return kind in _PLAIN or (
        kind is str
        and len(value) <= _SHORT_CHARACTERS
        and value.isprintable()
        and "'" not in value  # Celery escapes it; `repr` takes other quotation marks
        and "\\" not in value  # `repr` doubles it, Celery doesn't
    )


def _encode(value: Any) -> str:
    if value is None:
        return "null"
    return _encode_text(value) if type(value) is str else _encode_compact(value)


def _gap(name: str) -> str:
    return f"{_GAP}{name}"
