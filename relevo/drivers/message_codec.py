"""Between kombu's messages and the driver's jobs.

A payload is the JSON text of kombu's message (body, headers, properties, content type and
encoding), the same that every kombu broker holds, except that a text body stays a text: an operator
can read the arguments in the table.
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
from relevo.drivers.contract import HIGHEST_PRIORITY, LOWEST_PRIORITY, Conflict, NewJob, ReservedJob

Message = dict[str, Any]

#: The property that a message has while its job is reserved: whoever holds it may put it back
#: changed.
LEASED = "leased"
#: The property that says which permit the worker holds for the job: the key of a limit.
PERMIT = "permit"
#: The header in which the engine says what Celery has no word for; `unique` in it is for the
#: broker.
HEADER = "relevo"
#: The property that says since when a job could have run, in POSIX seconds, by the clock of who put
#: it.
DUE_AT = "due_at"

#: How long a job keeps its unique key that says `until` this: until it begins.
START = "start"
LONGEST_KEY = 255
_CONFLICTS = tuple(Conflict)  # not a set: a stranger may ask for a list
_JSON = {"application/json"}
#: What kombu's encoder leaves where a value is not JSON's own (a date in a header).
MARK = '"__type__"'


def to_job(queue: str, message: Message) -> NewJob:
    """The job that `message` asks for. Its `eta` header becomes the time before which no worker
    sees it.
    """
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
    """Whose turn a message says its job takes, if it says so."""
    ours = headers.get(HEADER) if isinstance(headers, dict) else None
    key = ours.get("fair") if isinstance(ours, dict) else None
    return key if isinstance(key, str) and 0 < len(key) <= LONGEST_KEY else None


def conflict_of(unique: Mapping[str, Any]) -> dict[str, Any]:
    """What `unique_of` answered, as the fields of a new job."""
    return {
        "unique_for": unique.get("for"),
        "on_conflict": unique.get("on") or Conflict.KEEP,
        "max_delay": unique.get("most"),
    }


def unique_of(headers: Any) -> Mapping[str, Any]:
    """What a message says of its job's unique key; nothing where it says nothing we know.

    `key`, `for`, `until`; `on`: what becomes of the one that has the key; `wait` and `most`: a
    debounced job's seconds.

    A retry that Celery sends as another message says nothing: the job it takes the place of still
    has the key.
    """
    ours = headers.get(HEADER) if isinstance(headers, dict) else None
    said = ours.get("unique") if isinstance(ours, dict) else None
    if not isinstance(said, dict):
        return {}
    key = said.get("key")
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY or headers.get("retries"):
        return {}
    conflict = Conflict(said["on"]) if said.get("on") in _CONFLICTS else None
    lengths = {name: _length(said.get(name)) for name in ("for", "wait", "most")}
    return {"key": key, "until": said.get("until"), "on": conflict, **lengths}


def _length(given: Any) -> float | None:
    """A number of seconds, if it is one."""
    usable = (
        isinstance(given, (int, float)) and not isinstance(given, bool) and 0 < given < math.inf
    )
    return given if usable else None


def frees_key_at_start(headers: Mapping[str, Any]) -> bool:
    """Whether a job keeps others out only until it begins, and begins for the first time."""
    return HEADER in headers and unique_of(headers).get("until") == START


def from_job(job: ReservedJob, permit: str | None = None) -> Message:
    """The message a reserved job carries, its lease's token as the delivery tag. Raises ValueError
    if unreadable.

    `permit`: what the worker holds for it, whatever the message itself says. An `eta` that is still
    to come is left out: the broker says when a job is due, and an operator may have hastened this
    one. Celery would keep it until then.
    """
    message = loads(job.payload)
    fields = message if isinstance(message, dict) else {}
    properties = fields.get("properties")
    if not isinstance(properties, dict) or not isinstance(fields.get("body"), str):
        raise ValueError(f"expected a message with a body and properties, got {job.payload[:80]!r}")  # noqa: TRY004
    if not isinstance(fields.get("headers", {}), dict):
        raise ValueError(f"expected headers by name, got {fields['headers']!r}")  # noqa: TRY004
    headers = fields.get("headers") or {}
    if headers.get("id") not in (
        None,
        job.id,
    ):  # it has taken the place of this one, and goes by its name
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
    """The payload of a job that goes back with these headers over its own; when it runs is the
    driver's to know.
    """
    message = loads(payload)
    message["headers"] = {**(message.get("headers") or {}), **headers, "eta": None}
    message["properties"][DUE_AT] = clock.now() + delay
    return dumps(message)


def decode(message: Any) -> None:
    """Decode a JSON body now; what fails is ours to keep, where Celery would ack and forget it. It
    is decoded once.
    """
    message.accept = _JSON
    if message.content_type == "application/json" and isinstance(message.body, str):
        # kombu makes a decoder for each body: a third of it
        message._decoded_cache = loads(message.body)  # noqa: SLF001
        return
    try:
        message.decode()
    except ContentDisallowed:
        message.accept = None  # the consumer says what else it accepts


def dumps(message: Message) -> str:
    try:
        return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    except TypeError:
        return str(kombu_dumps(message))


def loads(payload: str) -> Any:
    return kombu_loads(payload) if MARK in payload else json.loads(payload)


def headers_of(payload: str) -> dict[str, Any]:
    """The headers of a payload, or none where it can't be read: it may be a stranger's."""
    with suppress(Exception):
        message = loads(payload)
        if isinstance(message, dict) and isinstance(message.get("headers"), dict):
            return dict(message["headers"])
    return {}


def body_of(payload: str) -> tuple[Any, Any, dict[str, Any]]:
    """Arguments, and what lies beside them (callbacks, chain, chord); nothing where they can't be
    read.
    """
    try:
        args, kwargs, embed = json.loads(loads(payload)["body"])
    except Exception:  # noqa: BLE001  it may be anybody's
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
