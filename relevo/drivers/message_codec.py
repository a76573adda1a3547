"""Translates between kombu's messages and the driver's jobs.

A payload is the JSON text of kombu's message (body, headers, properties, content type and
encoding), as on every kombu broker, except that a text body stays readable: an operator can read
the arguments in the table. The transport calls `to_job` at dispatch and `from_job` at delivery.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import uuid4

from kombu.exceptions import ContentDisallowed
from kombu.utils.json import dumps as kombu_dumps
from kombu.utils.json import loads as kombu_loads

from relevo import clock
from relevo.database.text import storable
from relevo.drivers.contract import HIGHEST_PRIORITY, LOWEST_PRIORITY, Conflict, NewJob, ReservedJob

Message = dict[str, Any]

#: The property of a message whose job is reserved: its worker can release it with changes.
LEASED = "leased"
#: The property with the key of the limit whose permit the worker holds for the job.
PERMIT = "permit"
#: The header with the engine's own fields. Of these the broker reads `unique` and `fair`.
HEADER = "relevo"
#: The property with the time since which a job could have run: POSIX seconds by the sender's clock.
DUE_AT = "due_at"

#: The `until` of a unique key that the job keeps only until it starts.
START = "start"
LONGEST_KEY = 255  # characters
_CONFLICTS = tuple(Conflict)  # not a set: a foreign message may have an unhashable list here
_JSON = {"application/json"}
#: The mark of kombu's encoder on a value that JSON doesn't know, such as a date in a header.
MARK = '"__type__"'


def to_job(queue: str, message: Message) -> NewJob:
    """The job of a new message. Before the time of its `eta` header no worker sees it."""
    headers, properties = message.get("headers") or {}, message.get("properties") or {}
    available_at, unique = _instant(headers.get("eta")), unique_of(headers)
    if available_at is None and unique.get("wait"):
        available_at = clock.now() + unique["wait"]
    properties[DUE_AT] = max(available_at or 0.0, clock.now())
    return NewJob(
        queue=queue,
        payload=dumps(message),
        id=str(headers.get("id") or properties.get("correlation_id") or uuid4()),
        priority=_priority(properties.get("priority")),
        available_at=available_at,
        unique_key=unique.get("key"),
        fair_key=fair_key_of(headers),
        **conflict_of(unique),
    )


def fair_key_of(headers: Any) -> str | None:
    """The fair key in a message's headers, if it has a valid one."""
    ours = headers.get(HEADER) if isinstance(headers, dict) else None
    key = ours.get("fair") if isinstance(ours, dict) else None
    return key if isinstance(key, str) and 0 < len(key) <= LONGEST_KEY else None


def conflict_of(unique: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `NewJob` for the result of `unique_of`."""
    return {
        "unique_for": unique.get("for"),
        "on_conflict": unique.get("on") or Conflict.KEEP,
        "max_delay": unique.get("most"),
    }


def unique_of(headers: Any) -> Mapping[str, Any]:
    """The unique key in a message's headers and its options; empty without a valid key.

    `key`, `for`, `until`; `on`: the `Conflict` with a living job of that key; `wait` and `most`:
    the delay and the longest delay of a debounced job, in seconds.

    A retry that Celery sends as another message has none: the job before it still has the key.
    """
    ours = headers.get(HEADER) if isinstance(headers, dict) else None
    unique = ours.get("unique") if isinstance(ours, dict) else None
    if not isinstance(unique, dict):
        return {}
    key = unique.get("key")
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY or headers.get("retries"):
        return {}
    conflict = Conflict(unique["on"]) if unique.get("on") in _CONFLICTS else None
    lengths = {name: _length(unique.get(name)) for name in ("for", "wait", "most")}
    return {"key": key, "until": unique.get("until"), "on": conflict, **lengths}


def _length(given: Any) -> float | None:
    """A positive, finite number of seconds, or None."""
    usable = (
        isinstance(given, (int, float)) and not isinstance(given, bool) and 0 < given < math.inf
    )
    return given if usable else None


def frees_key_at_start(headers: Mapping[str, Any]) -> bool:
    """Whether this delivery frees the job's unique key when the job starts."""
    return HEADER in headers and unique_of(headers).get("until") == START


def from_job(job: ReservedJob, permit: str | None = None) -> Message:
    """The message of a reserved job, with the lease's token as the delivery tag.

    `permit` is the key of the limit whose permit the worker holds; a permit in the message itself
    is not believed. An `eta` in the future is left out: Celery would keep the job until then, but
    the broker decides when a job is due, and an operator may have hastened it. Raises ValueError
    when the payload is unreadable.
    """
    message = loads(job.payload)
    fields = message if isinstance(message, dict) else {}
    properties = fields.get("properties")
    if not isinstance(properties, dict) or not isinstance(fields.get("body"), str):
        raise ValueError(f"expected a message with a body and properties, got {job.payload[:80]!r}")  # noqa: TRY004
    if not isinstance(fields.get("headers", {}), dict):
        raise ValueError(f"expected headers by name, got {fields['headers']!r}")  # noqa: TRY004
    headers = fields.get("headers") or {}
    # The message of a job that has replaced this one: it goes by this one's id.
    if headers.get("id") not in (None, job.id):
        headers["root_id"] = (
            job.id if headers.get("root_id") == headers["id"] else headers.get("root_id")
        )
        headers["id"] = properties["correlation_id"] = job.id
    if (due := _instant(headers.get("eta"))) is not None and due > clock.now():
        headers["eta"] = None
    properties["delivery_tag"] = job.lease.token
    properties[LEASED] = True
    properties.pop(PERMIT, None)
    if permit is not None:
        properties[PERMIT] = permit
    info = properties.setdefault("delivery_info", {})
    if job.rescues:
        info["redelivered"] = True
    return message


def repack(payload: str, headers: Mapping[str, Any], delay: float = 0) -> str:
    """The payload of a released job, with these headers over its own.

    The `eta` is dropped: the driver knows when the job runs.
    """
    message = loads(payload)
    message["headers"] = {**(message.get("headers") or {}), **headers, "eta": None}
    message["properties"][DUE_AT] = clock.now() + delay
    return dumps(message)


def decode(message: Any) -> None:
    """Decode a JSON body now, and only once.

    A body that can't be decoded then goes to the failed jobs; Celery would ack and lose it.
    """
    message.accept = _JSON
    if message.content_type == "application/json" and isinstance(message.body, str):
        # kombu makes a decoder for each body, which costs a third of the decoding.
        message._decoded_cache = loads(message.body)  # noqa: SLF001
        return
    try:
        message.decode()
    except ContentDisallowed:
        message.accept = None  # the consumer knows what else it accepts


def dumps(message: Message) -> str:
    """A payload that every broker takes: characters that one refuses travel as JSON's escapes."""
    try:
        return storable(json.dumps(message, ensure_ascii=False, separators=(",", ":")))
    except TypeError:
        return storable(kombu_dumps(message))


def loads(payload: str) -> Any:
    return kombu_loads(payload) if MARK in payload else json.loads(payload)


def headers_of(payload: str) -> dict[str, Any]:
    """The headers of a payload; empty when it can't be read, as with a foreign message."""
    with suppress(Exception):
        message = loads(payload)
        if isinstance(message, dict) and isinstance(message.get("headers"), dict):
            return dict(message["headers"])
    return {}


def body_of(payload: str) -> tuple[Any, Any, dict[str, Any]]:
    """The positional arguments, the keyword arguments and the embedded canvas of a payload.

    The canvas has the callbacks, the chain and the chord. All three are empty when the payload
    can't be read.
    """
    try:
        args, kwargs, embed = json.loads(loads(payload)["body"])
    except Exception:  # noqa: BLE001  a foreign message may break anything
        return (), {}, {}
    return args, kwargs, embed if isinstance(embed, dict) else {}


def _priority(given: Any) -> int:
    try:
        return max(HIGHEST_PRIORITY, min(LOWEST_PRIORITY, int(given)))
    except (TypeError, ValueError):
        return HIGHEST_PRIORITY


def _instant(eta: Any) -> float | None:
    if isinstance(eta, str):
        eta = datetime.fromisoformat(eta)
    return clock.instant(eta) if isinstance(eta, datetime) else None
